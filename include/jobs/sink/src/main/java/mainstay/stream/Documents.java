package mainstay.stream;

import java.io.FileNotFoundException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileContext;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Options;
import org.apache.hadoop.fs.Path;

/** Small documents beside the checkpoint, wherever that is. */
public final class Documents {
    private Documents() {}

    /** The document, or null when there is none. */
    public static String read(String path, Configuration configuration) throws Exception {
        Path place = new Path(path);
        try (var stream = place.getFileSystem(configuration).open(place)) {
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        } catch (FileNotFoundException error) {
            return null;
        }
    }

    /** The names in a folder; none when it is not there. */
    public static List<String> names(String folder, Configuration configuration) throws Exception {
        Path place = new Path(folder);
        List<String> found = new ArrayList<>();
        try {
            for (FileStatus one : place.getFileSystem(configuration).listStatus(place)) {
                found.add(one.getPath().getName());
            }
        } catch (FileNotFoundException error) {
            return found;
        }
        return found;
    }

    /** Writes a document unless there is one, whole or not at all; gives whether it was written. */
    public static boolean create(String path, String text, Configuration configuration) throws Exception {
        Path place = new Path(path);
        FileContext files = FileContext.getFileContext(place.toUri(), configuration);
        Path draft = new Path(place.getParent(), "." + place.getName() + "." + UUID.randomUUID());
        try (FSDataOutputStream stream = files.create(
                draft, EnumSet.of(CreateFlag.CREATE), Options.CreateOpts.createParent())) {
            stream.write(text.getBytes(StandardCharsets.UTF_8));
        }
        try {
            files.rename(draft, place);
            return true;
        } catch (FileAlreadyExistsException error) {
            files.delete(draft, false);
            return false;
        }
    }
}
