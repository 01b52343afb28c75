package mainstay.stream;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.TopicExistsException;

/** What the driver asks of Kafka itself: which topic it is that has this name, and where a group stands. */
public final class Topics {
    private static final Map<Map<String, String>, Admin> ADMINS = new ConcurrentHashMap<>();
    private static final long SECONDS = 30;

    private Topics() {}

    /** The id of a topic: a topic that was deleted and made again has another one. */
    public static String id(Map<String, String> kafka, String topic) throws Exception {
        TopicDescription found = admin(kafka)
                .describeTopics(List.of(topic))
                .topicNameValues()
                .get(topic)
                .get(SECONDS, TimeUnit.SECONDS);
        return found.topicId().toString();
    }

    /** Makes a topic for dead letters unless it is there: a broken record must find its place, or the batch waits for ever. */
    public static void ensure(Map<String, String> kafka, String topic, String like) throws Exception {
        if (admin(kafka).listTopics().names().get(SECONDS, TimeUnit.SECONDS).contains(topic)) {
            return;
        }
        int partitions = admin(kafka)
                .describeTopics(List.of(like))
                .topicNameValues()
                .get(like)
                .get(SECONDS, TimeUnit.SECONDS)
                .partitions()
                .size();
        try {
            NewTopic wanted = new NewTopic(topic, Optional.of(partitions), Optional.empty());
            admin(kafka).createTopics(List.of(wanted)).all().get(SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }

    /** Where each partition that has records ends, as a reader of committed records sees it; whole partitions may be empty. */
    public static Map<Integer, Long> ends(Map<String, String> kafka, String topic) throws Exception {
        TopicDescription found = admin(kafka)
                .describeTopics(List.of(topic))
                .topicNameValues()
                .get(topic)
                .get(SECONDS, TimeUnit.SECONDS);
        Map<TopicPartition, OffsetSpec> newest = new HashMap<>();
        Map<TopicPartition, OffsetSpec> oldest = new HashMap<>();
        for (TopicPartitionInfo one : found.partitions()) {
            newest.put(new TopicPartition(topic, one.partition()), OffsetSpec.latest());
            oldest.put(new TopicPartition(topic, one.partition()), OffsetSpec.earliest());
        }
        var committed = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
        var ends = admin(kafka).listOffsets(newest, committed).all().get(SECONDS, TimeUnit.SECONDS);
        var begins = admin(kafka).listOffsets(oldest).all().get(SECONDS, TimeUnit.SECONDS);
        Map<Integer, Long> told = new HashMap<>();
        ends.forEach((partition, end) -> {
            if (end.offset() > begins.get(partition).offset()) {
                told.put(partition.partition(), end.offset());
            }
        });
        return told;
    }

    /** Puts a group at these offsets, {@code {topic: {partition: next offset}}}, with a note on each. */
    static void commit(Map<String, String> kafka, String group, Map<String, Map<String, Long>> offsets, String note)
            throws Exception {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        offsets.forEach((topic, partitions) -> partitions.forEach((partition, offset) ->
                wanted.put(new TopicPartition(topic, Integer.parseInt(partition)), new OffsetAndMetadata(offset, note))));
        if (!wanted.isEmpty()) {
            admin(kafka).alterConsumerGroupOffsets(group, wanted).all().get(SECONDS, TimeUnit.SECONDS);
        }
    }

    private static Admin admin(Map<String, String> kafka) {
        return ADMINS.computeIfAbsent(new HashMap<>(kafka), options -> {
            Properties properties = new Properties();
            properties.putAll(options);
            return Admin.create(properties);
        });
    }
}
