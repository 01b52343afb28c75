package mainstay.stream;

import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.CqlSessionBuilder;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.cql.SimpleStatement;
import com.datastax.oss.driver.api.core.DefaultConsistencyLevel;
import com.datastax.oss.driver.api.core.type.DataType;
import com.datastax.oss.driver.internal.core.loadbalancing.DcInferringLoadBalancingPolicy;
import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** One session of Cassandra and one set of prepared statements in each JVM, whatever the number of tasks. */
final class Sessions {
    /** A statement with the types of the columns that it writes; its last variable is the time of the write. */
    record Prepared(PreparedStatement statement, DataType[] types) {}

    private static final Map<Settings, CqlSession> SESSIONS = new ConcurrentHashMap<>();
    private static final Map<String, Prepared> STATEMENTS = new ConcurrentHashMap<>();

    private Sessions() {}

    static CqlSession of(Settings settings) {
        return SESSIONS.computeIfAbsent(settings, Sessions::open);
    }

    static Prepared prepared(Settings settings, String cql) {
        return STATEMENTS.computeIfAbsent(settings.hosts() + cql, key -> {
            PreparedStatement statement = of(settings)
                    .prepare(SimpleStatement.newInstance(cql)
                            .setConsistencyLevel(DefaultConsistencyLevel.valueOf(settings.consistency())));
            DataType[] types = new DataType[statement.getVariableDefinitions().size()];
            for (int i = 0; i < types.length; i++) {
                types[i] = statement.getVariableDefinitions().get(i).getType();
            }
            return new Prepared(statement, types);
        });
    }

    private static CqlSession open(Settings settings) {
        var options = DriverConfigLoader.programmaticBuilder()
                // Without it the JVM of a finished job never ends.
                .withBoolean(DefaultDriverOption.NETTY_DAEMON, true)
                .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(10))
                .withDuration(DefaultDriverOption.CONNECTION_CONNECT_TIMEOUT, Duration.ofSeconds(5))
                .withDuration(DefaultDriverOption.CONNECTION_INIT_QUERY_TIMEOUT, Duration.ofSeconds(5))
                .withDuration(DefaultDriverOption.RECONNECTION_BASE_DELAY, Duration.ofMillis(500))
                .withDuration(DefaultDriverOption.RECONNECTION_MAX_DELAY, Duration.ofSeconds(10))
                .withInt(DefaultDriverOption.CONNECTION_MAX_REQUESTS, Math.max(1024, 2 * settings.inFlight()))
                .withBoolean(DefaultDriverOption.METADATA_SCHEMA_ENABLED, false);
        if (settings.datacenter().isEmpty()) {
            options = options.withClass(
                    DefaultDriverOption.LOAD_BALANCING_POLICY_CLASS, DcInferringLoadBalancingPolicy.class);
        }
        CqlSessionBuilder builder = CqlSession.builder().withConfigLoader(options.build());
        for (String host : settings.hosts()) {
            builder.addContactPoint(new InetSocketAddress(host, settings.port()));
        }
        if (!settings.datacenter().isEmpty()) {
            builder.withLocalDatacenter(settings.datacenter());
        }
        if (!settings.login().isEmpty()) {
            builder.withAuthCredentials(settings.login(), settings.password());
        }
        if (!settings.truststore().isEmpty()) {
            builder.withSslContext(trusting(settings.truststore()));
        }
        return builder.build();
    }

    /** Trusts the certificates of a PEM file; nodes are addressed by the address that the ring gives, so no name is compared. */
    private static SSLContext trusting(String file) {
        try (FileInputStream stream = new FileInputStream(file)) {
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            int number = 0;
            for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(stream)) {
                store.setCertificateEntry("authority-" + number++, one);
            }
            TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, trust.getTrustManagers(), null);
            return context;
        } catch (Exception error) {
            throw new IllegalArgumentException("the certificates in " + file + " cannot be read", error);
        }
    }
}
