"""The shell scripts that nodes run, as text.  Pure.  All that they need is a POSIX shell, and the tools of :data:`_TOOLS`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from include.engine.sharing import SignedRequest
from include.engine.systems.cassandra.transport import quote

_TOOLS = "awk curl cut df find gzip head od sed sha256sum stat tail tee"
_FILES_A_COMMAND, _FOLDERS_A_COMMAND = 200, 100
# sha256sum puts a backslash before the line of a name that it had to quote.
_DIGEST_LINES = "sed 's/^\\\\\\{0,1\\}\\([0-9a-f]\\{64\\}\\) [ *]/S \\1 /'"
_END = "MAINSTAY_END_OF_TRANSFERS"
# Both sums of a Data.db in one reading.  Nodes have Python as a rule, since cqlsh wants it; any 3 will do.
_BOTH_SUMS = """import hashlib, sys, zlib
for path in sys.argv[1:]:
    sha256, crc = hashlib.sha256(), 0
    try:
        with open(path, "rb") as data:
            for block in iter(lambda: data.read(1 << 20), b""):
                sha256.update(block)
                crc = zlib.crc32(block, crc)
    except OSError as error:
        print(error, file=sys.stderr)
        continue
    print("S", sha256.hexdigest(), path)
    try:
        with open(path[: -len("Data.db")] + "Digest.crc32") as beside:
            print("C", crc, beside.read().strip(), path)
    except FileNotFoundError:
        pass
"""
# Who reads and writes through the node comes first.  All that a script starts inherits it.
_POLITE = "{ chrt -i -p 0 $$ || renice -n 19 -p $$; ionice -c 3 -p $$; } >/dev/null 2>&1 || true"
_STALLED_BYTES, _STALLED_SECONDS = 1024, 60
_TOOLS_TO_FETCH = "awk curl df find head sed sha256sum stat"
STAGED = "mainstay-restore-"  # begins the name of each directory with files of a restore
_LEFT_MINUTES = 24 * 60


class Transfer(Struct, frozen=True, kw_only=True):
    """One file on its way between a node and the store.

    :param number: of the part, counted from 1; 0 for a whole file
    """

    sha256: str
    path: str
    bytes: int
    request: SignedRequest
    offset: int = 0
    number: int = 0


def listing(data_directories: Sequence[str], tag: str) -> str:
    """List the snapshot *tag*: what :func:`~include.engine.systems.cassandra.sstables.read_listing` reads.

    The files that the server may write again under the same name are hashed as well: they would be every time, and a second
    way to the node costs more than they do.
    """
    hidden = quote(f"*/snapshots/{tag}/.*")  # folders of secondary indexes
    # Many folders to a command: with some tables, starting commands takes longer than what they do.
    some = " ".join(f'"${{{number}}}"' for number in range(1, _FOLDERS_A_COMMAND + 1))
    places = " ".join(f"{quote(directory)}/*/*/snapshots/{quote(tag)}" for directory in data_directories)
    # stat is GNU's and busybox's alike with these three; no other way tells size, time and inode in one call a hundred files.
    return f"""{_required(_TOOLS)}
listed() {{
  find "$@" -type f -exec stat -c 'F %s %Y %i %n' {{}} + || return 1
  find "$@" \\( {_names("-Statistics.db", "-Summary.db")} \\) -type f ! -path {hidden} \\
    -exec sha256sum -- {{}} + | {_DIGEST_LINES} || return 1
  find "$@" \\( -name manifest.json -o -name '*-TOC.txt' \\) -type f ! -path {hidden} \\
    -exec awk 'FNR == 1 {{ print "D " FILENAME }} {{ print "|" $0 }}' {{}} +
}}
for folder in {places}; do
  [ -d "$folder" ] || continue
  echo "T $folder"
  set -- "$@" "$folder"
done
while [ $# -gt {_FOLDERS_A_COMMAND} ]; do
  listed {some} || return 1
  shift {_FOLDERS_A_COMMAND}
done
[ $# -eq 0 ] || listed "$@"
"""


def segments(directory: str) -> str:
    """List archived commit log segments as ``F size mtime path``; print ``X`` when there is no such directory."""
    return (
        f"[ -d {quote(directory)} ] || {{ echo X; return 0; }}\n"
        f"find {quote(directory)} -type f -name 'CommitLog-*.log' -exec stat -c 'F %s %Y %n' {{}} +"
    )


def digests(paths: Sequence[str], data_files: Iterable[str]) -> str:
    """Print ``S digest path`` for each of *paths*, and ``C computed recorded path`` for each Data.db of *data_files* among them."""
    both = set(data_files)
    lines = [_POLITE, *_sha256([path for path in paths if path not in both])]
    if data := [path for path in paths if path in both]:
        lines += ["if python3 -c 'import hashlib, zlib' 2>/dev/null; then"]
        lines += [f"python3 -c {quote(_BOTH_SUMS)} {some}" for some in _batches(data)]
        lines += ["else", *_sha256(data), *map(_crc_by_gzip, data), "fi"]
    return "\n".join([*lines, "true"])


def _sha256(paths: Sequence[str]) -> list[str]:
    return [f"sha256sum -- {some} | {_DIGEST_LINES} || return 1" for some in _batches(paths)]


def _batches(paths: Sequence[str]) -> list[str]:
    starts = range(0, len(paths), _FILES_A_COMMAND)
    return [" ".join(map(quote, paths[start : start + _FILES_A_COMMAND])) for start in starts]


def _crc_by_gzip(path: str) -> str:
    recorded = quote(f"{path.removesuffix('Data.db')}Digest.crc32")
    # gzip's trailer carries the very CRC-32 that Cassandra records, at the price of packing all of it; no other stock tool
    # computes it.  Digest.crc32 has no end of line, so that read fails and has read it.
    return (
        f"[ -f {recorded} ] && {{ read -r crc < {recorded} || true; echo C"
        f" $(gzip -1 -c -- {quote(path)} | tail -c 8 | od -An -tu4 -N4) $crc {quote(path)}; }}"
    )


def part_digests(path: str, size: int, part: int) -> str:
    """Print ``P number digest`` for each part of a large file, then ``W digest`` of the parts together.

    All of them are of one reading: the digests of the parts are believed because the whole is what its name says.
    """
    parts = (
        f'echo "P {number} $({_slice(path, offset, part)} | tee /dev/fd/3 | sha256sum | cut -c 1-64)" >&4'
        for number, offset in enumerate(range(0, size, part), start=1)
    )
    whole = "} 3>&1 | sha256sum | sed 's/^\\([0-9a-f]*\\).*/W \\1/'; } 4>&1"
    return "\n".join([_POLITE, "{ {", *parts, whole])


def uploads(transfers: Sequence[Transfer], *, rate: int | None) -> str:
    """Send files; print ``U code bytes digest`` for each, whatever became of it.  One curl keeps its connection for all."""
    whole = [one for one in transfers if one.number == 0]
    lines = [_POLITE]
    if whole:
        config = "\nnext\n".join(_sending(one, one.path, rate) for one in whole)
        lines.append(f"curl -K - <<'{_END}' || true\n{config}\n{_END}")
    for one in (one for one in transfers if one.number):
        # A file cannot be sent from its middle: the piece comes through a pipe, with its length said.  curl's
        # configuration goes by another descriptor, as standard input is the piece.
        length = f'header = "Content-Length: {one.bytes}"\nheader = "Transfer-Encoding:"\n'
        config = length + _sending(one, "-", rate)
        lines.append(
            f"{{ {_slice(one.path, one.offset, one.bytes)} | curl -K /dev/fd/3 ; }} 3<<'{_END}' || true\n{config}\n{_END}"
        )
    return "\n".join(lines)


def staging(directory: str, attempt: str) -> str:
    """Make *directory* for the files of a restore, or take over the one that is there, for *attempt* alone.

    What lies beside it of restores that nobody has touched for a day is removed: they were killed, and rows are in it.
    """
    top = directory.rpartition("/")[0]
    marks = f"{quote(directory)}/.attempt-"
    return f"""{_required(_TOOLS_TO_FETCH)}
umask 022
mkdir -p -- {quote(directory)} && rm -f -- {marks}* && : > {quote(mark(directory, attempt))} || return 1
touch -- {quote(directory)}
for left in {quote(top)}/{STAGED}*; do
  [ -d "$left" ] && [ -z "$(find "$left" -mmin -{_LEFT_MINUTES} | head -n 1)" ] && rm -rf -- "$left"
done
true
"""


def unstaging(directory: str, attempt: str) -> str:
    """Remove *directory* with all that is in it, unless another attempt has taken it over."""
    return f"[ ! -e {quote(mark(directory, attempt))} ] || rm -rf -- {quote(directory)}"


def mark(directory: str, attempt: str) -> str:
    """Give the path of the empty file that says whose *directory* is."""
    return f"{directory}/.attempt-{attempt}"


def downloads(transfers: Sequence[Transfer], *, rate: int | None) -> str:
    """Fetch files, each under ``<path>.part`` until its digest was compared.

    Prints ``G code bytes digest`` for each, then ``V path`` when it is right or ``W bytes path`` with what is there of it, and at
    the end ``A kilobytes`` that are free.
    """
    config = "\nnext\n".join(_receiving(one, rate) for one in transfers)
    folders = sorted({one.path.rpartition("/")[0] for one in transfers})
    sums = "\n".join(f"{one.sha256}  {one.path}.part" for one in transfers)
    wrong = "\n".join(
        f'[ -f {quote(one.path)} ] || echo "W $(stat -c %s {quote(one.path + ".part")} 2>/dev/null || echo 0) "{quote(one.path)}'
        for one in transfers
    )
    # One process compares all of them: with small files, starting some for each takes longer than their work.
    return f"""umask 022
mkdir -p -- {" ".join(map(quote, folders))} && rm -f -- {" ".join(quote(one.path) for one in transfers)} || return 1
curl -K - <<'{_END}' || true
{config}
{_END}
LC_ALL=C sha256sum -c 2>/dev/null <<'{_END}' | sed -n 's/\\.part: OK$//p' | while IFS= read -r path; do
{sums}
{_END}
  mv -- "$path.part" "$path" && echo "V $path"
done
{wrong}
echo "A $(df -Pk {quote(folders[0])} | awk 'NR == 2 {{ print $4 }}')"
"""


def _required(tools: str) -> str:
    # Without one of these, what follows would say less than there is: an empty digest, or no error at all.
    return (
        f"for tool in {tools}; do\n"
        '  command -v "$tool" >/dev/null || { echo "$tool is not installed on this node: install it" >&2; return 1; }\ndone'
    )


def _names(*ends: str) -> str:
    return " -o ".join(f"-name {quote('*' + end)}" for end in ends)


def _sending(one: Transfer, source: str, rate: int | None) -> str:
    # What the store answers is printed: it says why it refused.  The answer's end need not be an end of line.
    return _asking(one, rate, answer="\\nU") + f'\nupload-file = {_text(source)}\noutput = "-"'


def _receiving(one: Transfer, rate: int | None) -> str:
    return _asking(one, rate, answer="G") + f"\nfail\noutput = {_text(one.path + '.part')}"


def _asking(one: Transfer, rate: int | None, *, answer: str) -> str:
    counted = "size_download" if answer == "G" else "size_upload"
    label = f"{one.sha256}:{one.number}"
    lines = [
        f"url = {_text(one.request.url)}",
        "silent",
        "show-error",
        'stderr = "-"',  # why it failed stands among what it printed
        "globoff",
        "connect-timeout = 15",
        # Slower than this for a minute is dead: a transfer that hangs would hold the whole backup.
        f"speed-limit = {_STALLED_BYTES}",
        f"speed-time = {_STALLED_SECONDS}",
        'header = "Expect:"',
        *(f"header = {_text(f'{name}: {value}')}" for name, value in one.request.headers.items()),
        f'write-out = "{answer} %{{http_code}} %{{{counted}}} {label}\\n"',
    ]
    return "\n".join([*lines, f"limit-rate = {rate}"] if rate else lines)


def _slice(path: str, offset: int, length: int) -> str:
    # tail and head count bytes, and read from there on: dd with a block of one byte would take for ever.
    return f"tail -c +{offset + 1} -- {quote(path)} | head -c {length}"


def _text(value: str) -> str:
    """Quote a value as curl's configuration wants it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
