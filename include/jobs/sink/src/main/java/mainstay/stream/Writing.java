package mainstay.stream;

import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.cql.BoundStatement;
import com.datastax.oss.driver.api.core.servererrors.InvalidQueryException;
import com.datastax.oss.driver.api.core.servererrors.SyntaxError;
import com.datastax.oss.driver.api.core.servererrors.UnauthorizedException;
import com.datastax.oss.driver.api.core.type.codec.CodecNotFoundException;
import java.sql.Timestamp;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.spark.TaskContext;
import org.apache.spark.sql.Row;

/**
 * The rows of one partition on their way.
 *
 * <p>Writes are asynchronous, so many at a time as the bound allows.  What fails because Cassandra is away goes to a queue and
 * is sent again with a back-off until the deadline: Spark's own attempts come at once and would end the query.
 */
final class Writing implements AutoCloseable {
    private static final long FIRST_PAUSE = 500;
    private static final long LONGEST_PAUSE = 10_000;

    /** For how long Cassandra may be away: Spark's later attempts come after the first one has waited for it, and wait no more. */
    private final long patience;

    private record Failed(BoundStatement statement, Row row, Throwable cause) {}

    private final Settings settings;
    private final String cql;
    private final String probe;
    private final Semaphore room;
    private final Queue<Failed> failed = new ConcurrentLinkedQueue<>();
    private final Queue<Failed> refused = new ConcurrentLinkedQueue<>();
    private final AtomicReference<Throwable> fatal = new AtomicReference<>();
    private final DeadLetters letters;
    private long written;

    /**
     * @param probe a statement that reads what {@code cql} writes: it fails when not the record is wrong but the table
     */
    Writing(Settings settings, String cql, String probe) {
        this.settings = settings;
        this.cql = cql;
        this.probe = probe;
        this.room = new Semaphore(settings.inFlight());
        boolean first = TaskContext.get() == null || TaskContext.get().attemptNumber() == 0;
        this.patience = first ? TimeUnit.SECONDS.toNanos(settings.deadlineSeconds()) : 0;
        this.letters = new DeadLetters(settings);
    }

    long written() {
        return written;
    }

    long dead() {
        return letters.sent();
    }

    void take(Row row) throws InterruptedException {
        if (!row.isNullAt(0)) {
            letters.send(row, row.getString(0));
            return;
        }
        CqlSession session = eventually(() -> Sessions.of(settings));
        Sessions.Prepared prepared = eventually(() -> Sessions.prepared(settings, cql));
        BoundStatement bound;
        try {
            bound = Binding.bind(session, prepared, row, Sink.SOURCE.size(), micros(row));
        } catch (IllegalArgumentException | ClassCastException | CodecNotFoundException error) {
            letters.send(row, "does_not_fit_the_table");
            return;
        }
        send(session, bound, row);
        written++;
        check();
        if (failed.size() >= settings.inFlight()) {
            settle();
        }
    }

    /** Waits until everything is acknowledged. */
    void finish() throws InterruptedException {
        settle();
        letters.flush();
    }

    @Override
    public void close() {
        letters.close();
    }

    /** The record's own time, with its place among the records of one millisecond: the later one wins, on every replay. */
    private static long micros(Row row) {
        Timestamp time = row.getTimestamp(4);
        return time.getTime() * 1000 + row.getLong(3) % 1000;
    }

    private void send(CqlSession session, BoundStatement bound, Row row) throws InterruptedException {
        room.acquire();
        session.executeAsync(bound).whenComplete((rows, error) -> {
            if (error != null) {
                Throwable cause = error.getCause() != null && error instanceof java.util.concurrent.CompletionException
                        ? error.getCause()
                        : error;
                if (cause instanceof InvalidQueryException) {
                    refused.add(new Failed(bound, row, cause));
                } else if (permanent(cause)) {
                    fatal.compareAndSet(null, cause);
                } else {
                    failed.add(new Failed(bound, row, cause));
                }
            }
            room.release();
        });
    }

    private static boolean permanent(Throwable error) {
        return error instanceof InvalidQueryException
                || error instanceof SyntaxError
                || error instanceof UnauthorizedException;
    }

    private void settle() throws InterruptedException {
        long until = System.nanoTime() + patience;
        long pause = FIRST_PAUSE;
        while (true) {
            room.acquire(settings.inFlight());
            room.release(settings.inFlight());
            check();
            if (failed.isEmpty()) {
                return;
            }
            Throwable last = failed.peek().cause();
            if (System.nanoTime() > until) {
                throw new IllegalStateException(
                        "Cassandra did not take " + failed.size() + " rows within " + settings.deadlineSeconds() + " s",
                        last);
            }
            TimeUnit.MILLISECONDS.sleep(pause);
            pause = Math.min(2 * pause, LONGEST_PAUSE);
            CqlSession session = Sessions.of(settings);
            for (int left = failed.size(); left > 0; left--) {
                Failed again = failed.poll();
                send(session, again.statement(), again.row());
            }
        }
    }

    private void check() throws InterruptedException {
        bury();
        Throwable error = fatal.get();
        if (error != null) {
            throw new IllegalStateException("Cassandra refuses what the stream writes: " + error.getMessage(), error);
        }
    }

    /** Makes dead letters of records that Cassandra refuses, such as one that is too large; a table that does not fit ends the job. */
    private void bury() throws InterruptedException {
        if (refused.isEmpty()) {
            return;
        }
        eventually(() -> Sessions.of(settings).execute(probe)); // fails for good when a column or the table is not there
        for (Failed one = refused.poll(); one != null; one = refused.poll()) {
            letters.send(one.row(), "refused_by_cassandra");
            written--;
        }
    }

    private interface Question<T> {
        T ask();
    }

    /** Asks until Cassandra answers, or the deadline is over. */
    private <T> T eventually(Question<T> question) throws InterruptedException {
        long until = System.nanoTime() + patience;
        long pause = FIRST_PAUSE;
        while (true) {
            try {
                return question.ask();
            } catch (RuntimeException error) {
                if (permanent(error) || System.nanoTime() > until) {
                    throw error;
                }
            }
            TimeUnit.MILLISECONDS.sleep(pause);
            pause = Math.min(2 * pause, LONGEST_PAUSE);
        }
    }
}
