package mainstay.stream;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.spark.sql.Row;

/** Sends broken records on as they came, with why and where from; at least once, so readers go by partition and offset. */
final class DeadLetters implements AutoCloseable {
    private final Settings settings;
    private final AtomicReference<Exception> failed = new AtomicReference<>();
    private KafkaProducer<byte[], byte[]> producer;
    private long sent;

    DeadLetters(Settings settings) {
        this.settings = settings;
    }

    long sent() {
        return sent;
    }

    void send(Row row, String reason) {
        if (producer == null) {
            Map<String, Object> options = new HashMap<>(settings.kafka());
            options.put("acks", "all");
            options.put("enable.idempotence", "true");
            options.put("delivery.timeout.ms", String.valueOf(1000 * settings.deadlineSeconds()));
            options.put("max.block.ms", String.valueOf(1000 * settings.deadlineSeconds()));
            producer = new KafkaProducer<>(options, new ByteArraySerializer(), new ByteArraySerializer());
        }
        ProducerRecord<byte[], byte[]> record =
                new ProducerRecord<>(settings.deadLetters(), null, row.getAs(5), row.getAs(6));
        header(record, "reason", reason);
        header(record, "source_topic", row.getString(1));
        header(record, "source_partition", String.valueOf(row.getInt(2)));
        header(record, "source_offset", String.valueOf(row.getLong(3)));
        producer.send(record, (place, error) -> {
            if (error != null) {
                failed.compareAndSet(null, error);
            }
        });
        sent++;
    }

    void flush() {
        if (producer != null) {
            producer.flush();
        }
        Exception error = failed.get();
        if (error != null) {
            throw new IllegalStateException("dead letters could not be sent to " + settings.deadLetters(), error);
        }
    }

    @Override
    public void close() {
        if (producer != null) {
            producer.close(java.time.Duration.ofSeconds(5));
        }
    }

    private static void header(ProducerRecord<byte[], byte[]> record, String name, String value) {
        record.headers().add(name, value.getBytes(StandardCharsets.UTF_8));
    }
}
