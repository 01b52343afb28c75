package mainstay.stream;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.spark.api.java.function.ForeachPartitionFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.util.LongAccumulator;

/**
 * Writes one batch: good rows to Cassandra, broken ones to the topic of dead letters, in one pass.
 *
 * <p>A row has first the columns of {@link #SOURCE}, then the columns of the table.
 */
public final class Sink {
    /** Where a record comes from and, when it is broken, why: {@code null} for a good one. */
    public static final List<String> SOURCE = List.of("reason", "topic", "partition", "offset", "timestamp", "key", "value");

    private Sink() {}

    /**
     * Writes all rows, or fails; what was written before it failed is written again by the next try, to the same keys.
     *
     * @return how many rows were written and how many were dead letters
     */
    public static long[] write(Dataset<Row> batch, Settings settings, String table) {
        String[] names = batch.columns();
        List<String> columns = new ArrayList<>(Arrays.asList(names).subList(SOURCE.size(), names.length));
        String cql = insert(table, columns);
        String probe = select(table, columns);
        LongAccumulator written = batch.sparkSession().sparkContext().longAccumulator();
        LongAccumulator dead = batch.sparkSession().sparkContext().longAccumulator();
        batch.foreachPartition((ForeachPartitionFunction<Row>) rows -> {
            try (Writing writing = new Writing(settings, cql, probe)) {
                while (rows.hasNext()) {
                    writing.take(rows.next());
                }
                writing.finish();
                written.add(writing.written());
                dead.add(writing.dead());
            }
        });
        return new long[] {written.value(), dead.value()};
    }

    static String insert(String table, List<String> columns) {
        String names = String.join(", ", columns.stream().map(Sink::quoted).toList());
        String marks = String.join(", ", columns.stream().map(column -> "?").toList());
        return "INSERT INTO " + table + " (" + names + ") VALUES (" + marks + ") USING TIMESTAMP ?";
    }

    static String select(String table, List<String> columns) {
        return "SELECT " + String.join(", ", columns.stream().map(Sink::quoted).toList()) + " FROM " + table + " LIMIT 1";
    }

    /** Makes the settings from what py4j can pass. */
    public static Settings settings(
            List<String> hosts, int port, Map<String, String> options, Map<String, String> kafka, String deadLetters) {
        return new Settings(
                new ArrayList<>(hosts),
                port,
                options.getOrDefault("datacenter", ""),
                options.getOrDefault("login", ""),
                options.getOrDefault("password", ""),
                options.getOrDefault("truststore", ""),
                options.getOrDefault("consistency", "LOCAL_QUORUM"),
                Integer.parseInt(options.getOrDefault("in_flight", "128")),
                Long.parseLong(options.getOrDefault("deadline_seconds", "300")),
                new java.util.HashMap<>(kafka),
                deadLetters);
    }

    private static String quoted(String name) {
        return '"' + name.replace("\"", "\"\"") + '"';
    }
}
