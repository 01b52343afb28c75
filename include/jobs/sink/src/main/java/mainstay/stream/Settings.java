package mainstay.stream;

import java.io.Serializable;
import java.util.List;
import java.util.Map;

/** What the sink needs on every executor.  It travels in the task's closure, so a password is in no property and no command line. */
public record Settings(
        List<String> hosts,
        int port,
        String datacenter,
        String login,
        String password,
        String truststore,
        String consistency,
        int inFlight,
        long deadlineSeconds,
        Map<String, String> kafka,
        String deadLetters)
        implements Serializable {

    /** Says nothing about passwords. */
    @Override
    public String toString() {
        return "Settings[" + String.join(",", hosts) + ":" + port + "]";
    }
}
