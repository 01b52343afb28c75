package mainstay.stream;

import com.datastax.oss.driver.api.core.cql.Row;
import java.util.ArrayList;
import java.util.List;

/** What the driver asks of Cassandra before it starts. */
public final class Tables {
    private Tables() {}

    /** The columns of a table's primary key; none when there is no such table. */
    public static List<String> key(Settings settings, String table) {
        String[] parts = table.split("\\.", 2);
        List<String> found = new ArrayList<>();
        for (Row row : Sessions.of(settings)
                .execute(
                        "SELECT column_name, kind FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
                        parts[0],
                        parts[1])) {
            if (!"regular".equals(row.getString("kind")) && !"static".equals(row.getString("kind"))) {
                found.add(row.getString("column_name"));
            }
        }
        return found;
    }
}
