"""What is known of the pipeline over time: rules, findings, trends, history.  Decisions are pure; the history does the I/O."""
