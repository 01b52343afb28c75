package mainstay.stream;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.sql.streaming.SourceProgress;
import org.apache.spark.sql.streaming.StateOperatorProgress;
import org.apache.spark.sql.streaming.StreamingQueryListener;
import org.apache.spark.sql.streaming.StreamingQueryProgress;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Commits every finished batch's offsets to a group of Kafka, with the batch's figures as the note on each offset.
 *
 * <p>So the position and the figures outlive the driver, and any tool that shows a group's lag shows the stream's.  It comes
 * after the batch's own commit: a driver that dies in between has done more than the group says, never less.
 *
 * <p>The group has no members, so Kafka forgets its offsets a week (offsets.retention.minutes) after the last commit, and a flow
 * that was idle for so long would look as if it had never read anything.  So an idle flow's offsets are committed again.
 */
public final class Progress extends StreamingQueryListener {
    private static final Logger LOG = LoggerFactory.getLogger(Progress.class);
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, String> kafka;
    private final String group;
    private final Map<String, long[]> counts = new ConcurrentHashMap<>();
    private final Map<UUID, String> names = new ConcurrentHashMap<>(); // of the queries, by their runs
    private final Map<String, Committed> standing = new ConcurrentHashMap<>(); // by query

    private record Committed(Map<String, Map<String, Long>> offsets, String note) {}

    public Progress(Map<String, String> kafka, String group) {
        this.kafka = new java.util.HashMap<>(kafka);
        this.group = group;
    }

    /** Notes what a batch has written: rows and dead letters, since the driver was started. */
    public void count(String query, long written, long dead) {
        counts.merge(query, new long[] {written, dead}, (a, b) -> new long[] {a[0] + b[0], a[1] + b[1]});
    }

    /** Puts the group at offsets that the checkpoint tells, {@code {topic: {partition: next offset}}}. */
    public void begin(String query, String offsets, long batch) throws Exception {
        Map<String, Object> note = new LinkedHashMap<>();
        note.put("query", query);
        note.put("batch", batch);
        note.put("at", System.currentTimeMillis());
        commit(query, new Committed(read(offsets), JSON.writeValueAsString(note)));
    }

    @Override
    public void onQueryStarted(QueryStartedEvent event) {
        if (event.name() != null) {
            names.put(event.runId(), event.name());
        }
    }

    @Override
    public void onQueryIdle(QueryIdleEvent event) {
        String query = names.getOrDefault(event.runId(), "");
        Committed last = standing.get(query);
        if (last == null) {
            return; // it has never finished a batch
        }
        try {
            commit(query, last);
        } catch (Exception error) {
            LOG.warn("the offsets of {}, which is idle, were not committed to {} again", query, group, error);
        }
    }

    private void commit(String query, Committed now) throws Exception {
        Topics.commit(kafka, group, now.offsets(), now.note());
        standing.put(query, now);
    }

    @Override
    public void onQueryProgress(QueryProgressEvent event) {
        StreamingQueryProgress done = event.progress();
        try {
            String note = JSON.writeValueAsString(note(done));
            for (SourceProgress source : done.sources()) {
                if (source.endOffset() != null) {
                    commit(done.name(), new Committed(read(source.endOffset()), note));
                }
            }
        } catch (Exception error) {
            // The next batch's commit makes up for it; until then the lag that is shown is too large, never too small.
            LOG.warn("the offsets of batch {} of {} were not committed to {}", done.batchId(), done.name(), group, error);
        }
    }

    @Override
    public void onQueryTerminated(QueryTerminatedEvent event) {}

    private Map<String, Object> note(StreamingQueryProgress done) {
        long state = 0;
        for (StateOperatorProgress operator : done.stateOperators()) {
            state += operator.memoryUsedBytes();
        }
        long[] found = counts.getOrDefault(done.name(), new long[2]);
        Map<String, Object> note = new LinkedHashMap<>();
        note.put("query", done.name());
        note.put("batch", done.batchId());
        note.put("at", System.currentTimeMillis());
        note.put("ms", done.batchDuration());
        note.put("rows", done.numInputRows());
        note.put("in", finite(done.inputRowsPerSecond()));
        note.put("out", finite(done.processedRowsPerSecond()));
        note.put("state", state);
        note.put("written", found[0]);
        note.put("dead", found[1]);
        return note;
    }

    private static double finite(double value) {
        return Double.isFinite(value) ? Math.round(value * 100) / 100.0 : 0.0;
    }

    private static Map<String, Map<String, Long>> read(String offsets) throws Exception {
        return JSON.readValue(offsets, new TypeReference<Map<String, Map<String, Long>>>() {});
    }
}
