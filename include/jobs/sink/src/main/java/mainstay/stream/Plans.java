package mainstay.stream;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.ScalaUDF;
import org.apache.spark.sql.catalyst.optimizer.ColumnPruning;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import scala.jdk.javaapi.CollectionConverters;

/** Looks through a plan for what a replay would not make again: the clock, chance, and a record's place in its topic. */
public final class Plans {
    private static final int PASSES = 8; // of the rule that removes what a column does not need: one for each select
    private static final List<String> CLOCKS =
            List.of("CurrentTimestamp", "CurrentDate", "CurrentTime", "Now", "LocalTimestamp", "CurrentBatchTimestamp");
    private static final Set<String> PLACES = Set.of("offset", "partition"); // a restored topic numbers its records anew

    private Plans() {}

    /** Each of the columns that would come out differently when the same record is read again, with what it uses. */
    public static Map<String, List<String>> unrepeatable(Dataset<Row> frame, List<String> columns) {
        Map<String, List<String>> found = new LinkedHashMap<>();
        for (String column : columns) {
            LogicalPlan plan = analyzed(frame.select(column));
            for (int pass = 0; pass < PASSES; pass++) {
                plan = ColumnPruning.apply(plan);
            }
            Set<String> offences = new TreeSet<>();
            look(plan, offences);
            if (!offences.isEmpty()) {
                found.put(column, new ArrayList<>(offences));
            }
        }
        return found;
    }

    private static LogicalPlan analyzed(Dataset<Row> frame) {
        return ((org.apache.spark.sql.classic.Dataset<Row>) frame).queryExecution().analyzed();
    }

    private static void look(LogicalPlan node, Set<String> offences) {
        var children = CollectionConverters.asJava(node.children());
        if (children.isEmpty()) {
            return; // the source: that it has a column does not mean that anybody uses it
        }
        for (Expression expression : CollectionConverters.asJava(node.expressions())) {
            judge(expression, offences);
        }
        for (LogicalPlan child : children) {
            look(child, offences);
        }
    }

    private static void judge(Expression expression, Set<String> offences) {
        String kind = expression.getClass().getSimpleName();
        var children = CollectionConverters.asJava(expression.children());
        if (CLOCKS.stream().anyMatch(kind::startsWith)) {
            offences.add("the clock: " + expression.prettyName());
        } else if (expression instanceof ScalaUDF || kind.startsWith("PythonUDF")) {
            offences.add("a function that cannot be looked into: " + expression.prettyName());
        } else if (expression instanceof AttributeReference reference && PLACES.contains(reference.name())) {
            offences.add("the record's " + reference.name() + ", which a restored topic numbers anew");
        } else if (!expression.deterministic() && children.stream().allMatch(Expression::deterministic)) {
            offences.add("chance: " + expression.prettyName());
        }
        for (Expression child : children) {
            judge(child, offences);
        }
    }
}
