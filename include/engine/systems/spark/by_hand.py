"""How a checkpoint is restored with stock tools only."""

from __future__ import annotations

from include.engine.model import Manifest
from include.engine.systems.spark.backup import NOTES, detail_of


def instructions(manifest: Manifest) -> str:
    """Write the instructions for one backup.  Pure."""
    entries = {entry.name: entry for entry in manifest.entries}
    key = entries[NOTES].key
    detail = detail_of(manifest.cut)
    flows = "\n".join(
        f"- `{name}`: {flow.topic} to {flow.table}, batch {flow.batch}, "
        f"offsets {manifest.cut.offsets.get(flow.topic, {})}"
        for name, flow in sorted(detail.flows.items())
    )
    return f"""## {manifest.target}: the streaming job's checkpoint

{flows}

The object `{key}` holds the files of each flow's checkpoint, base64 in JSON. With the topics as they were, write them out:

```sh
jq -r '.flows | to_entries[] | .key as $f | .value.files | to_entries[] | "\\($f)/\\(.key) \\(.value)"' notes.json |
while read -r path data; do mkdir -p "checkpoint/$(dirname "$path")"; echo "$data" | base64 -d > "checkpoint/$path"; done
mkdir -p checkpoint/_mainstay/flows
jq -r '.flows | to_entries[] | select(.value.topic_id != "") |
  "\\(.key) \\({{topic: .value.topic, id: .value.topic_id}} | tojson)"' notes.json |
while read -r flow topic; do echo "$topic" > "checkpoint/_mainstay/flows/$flow.json"; done
```

The last lines say which topic each flow is about: without them the job could not tell one that was made anew under the
same name. Then start the job with `checkpoint` pointing there.

When the topics were restored, they are others, and so are their offsets: leave out `_mainstay` and `sources/`, and in the
newest two files of each `offsets/`, put in the third line, for each partition, the number of restored records before the
old offset. Or start with no checkpoint at all: everything in the topics is written again, to the same rows.
"""
