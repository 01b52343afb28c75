package mainstay.stream;

import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.cql.BoundStatement;
import com.datastax.oss.driver.api.core.cql.BoundStatementBuilder;
import com.datastax.oss.driver.api.core.data.UdtValue;
import com.datastax.oss.driver.api.core.type.DataType;
import com.datastax.oss.driver.api.core.type.ListType;
import com.datastax.oss.driver.api.core.type.MapType;
import com.datastax.oss.driver.api.core.type.UserDefinedType;
import com.datastax.oss.driver.api.core.type.codec.TypeCodec;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.spark.sql.Row;

/** Turns a row of Spark into a bound statement: what is missing stays unset, because a null would be written as a tombstone. */
final class Binding {
    private static final int TIMESTAMP = 0x000B;
    private static final int UUID_TYPE = 0x000C;
    private static final int TIMEUUID = 0x000F;

    private Binding() {}

    /**
     * Binds the first columns of a row, as many as the statement has variables but one, and the time of the write.
     *
     * @param micros since the epoch: what an older record has written never replaces what a newer one has
     * @throws IllegalArgumentException when a value does not fit its column
     */
    static BoundStatement bind(CqlSession session, Sessions.Prepared prepared, Row row, int first, long micros) {
        BoundStatementBuilder builder = prepared.statement().boundStatementBuilder();
        int columns = prepared.types().length - 1;
        for (int i = 0; i < columns; i++) {
            if (!row.isNullAt(first + i)) {
                Object value = converted(row.get(first + i), prepared.types()[i]);
                builder.set(i, value, codec(session, prepared.types()[i], value));
            }
        }
        // An unset timestamp would be the coordinator's clock, and a replay would not be the same write.
        return builder.setLong(columns, micros).build();
    }

    private static TypeCodec<Object> codec(CqlSession session, DataType type, Object value) {
        return session.getContext().getCodecRegistry().codecFor(type, value);
    }

    private static Object converted(Object value, DataType type) {
        switch (type.getProtocolCode()) {
            case UUID_TYPE, TIMEUUID:
                return UUID.fromString((String) value);
            case TIMESTAMP:
                return value instanceof Instant ? value : ((Timestamp) value).toInstant();
            default:
        }
        if (type instanceof MapType map) {
            Map<Object, Object> found = new LinkedHashMap<>();
            scala.jdk.javaapi.CollectionConverters.asJava((scala.collection.Map<?, ?>) value).forEach((key, item) -> {
                if (item != null) {
                    found.put(converted(key, map.getKeyType()), converted(item, map.getValueType()));
                }
            });
            return found;
        }
        if (type instanceof ListType list) {
            List<Object> found = new ArrayList<>();
            for (Object item : scala.jdk.javaapi.CollectionConverters.asJava((scala.collection.Seq<?>) value)) {
                found.add(converted(item, list.getElementType()));
            }
            return found;
        }
        if (type instanceof UserDefinedType user) {
            return filled(user, (Row) value);
        }
        return value;
    }

    private static UdtValue filled(UserDefinedType type, Row row) {
        UdtValue made = type.newValue();
        for (int i = 0; i < type.getFieldNames().size(); i++) {
            String name = type.getFieldNames().get(i).asInternal();
            Object value = row.getAs(name);
            if (value != null) {
                DataType field = type.getFieldTypes().get(i);
                Object ready = converted(value, field);
                TypeCodec<Object> codec = type.getAttachmentPoint().getCodecRegistry().codecFor(field, ready);
                made = made.set(i, ready, codec);
            }
        }
        return made;
    }
}
