"""A file server that has died: mounts itself on a folder, gives names and sizes, and never answers a read.

Arguments: the folder, the uid and gid of whom it belongs to, and the requests that it does not answer. Needs root, as it
mounts without the helper of FUSE. Runs until its input is closed. It speaks what is needed of linux/fuse.h, version 7.
"""

import ctypes
import json
import os
import select
import struct
import sys

LOOKUP, GETATTR, OPEN, READ, FLUSH, INIT, OPENDIR, READDIR = 1, 3, 14, 15, 25, 26, 27, 28
NOT_SUPPORTED, NO_ENTRY = 38, 2
HEAD = struct.Struct("<IIQQIIII")
DIRECTORY, REGULAR = 0o040755, 0o100644


def attributes(inode: int, uid: int) -> bytes:
    mode = DIRECTORY if inode == 1 else REGULAR
    return struct.pack("<6Q10I", inode, 1 << 20, 8, 0, 0, 0, 0, 0, 0, mode, 1, uid, uid, 0, 4096, 0)


def answer(device: int, unique: int, data: bytes = b"", error: int = 0) -> None:
    os.write(device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)


def serve(device: int, uid: int, dead: set[int], counts: dict[str, int]) -> None:
    request = os.read(device, 1 << 20)
    _, opcode, unique, inode, *_ = HEAD.unpack_from(request)
    body = request[HEAD.size :]
    counts["requests"] += 1
    if opcode in dead:
        counts["unanswered"] += 1
    elif opcode == INIT:
        answer(device, unique, struct.pack("<IIIIHHIIHHI", 7, 19, 65536, 0, 12, 9, 65536, 1, 0, 0, 0) + bytes(28))
    elif opcode == LOOKUP and body.rstrip(b"\0").endswith(b".log"):
        answer(device, unique, struct.pack("<QQQQII", 2, 0, 1, 1, 0, 0) + attributes(2, uid))
    elif opcode == LOOKUP:
        answer(device, unique, error=NO_ENTRY)
    elif opcode == GETATTR:
        answer(device, unique, struct.pack("<QII", 1, 0, 0) + attributes(inode, uid))
    elif opcode in (OPEN, OPENDIR):
        answer(device, unique, struct.pack("<QII", 1, 0, 0))
    else:
        answer(device, unique, error=NOT_SUPPORTED)


def main() -> None:
    folder, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dead = {int(number) for number in sys.argv[4].split(",")}
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={gid}"
    if libc.mount(b"dead", folder.encode(), b"fuse.dead", 6, options.encode()) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    counts = {"requests": 0, "unanswered": 0}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        while True:
            ready, _, _ = select.select([0, device], [], [])
            if 0 in ready:
                break
            serve(device, uid, dead, counts)
    finally:
        libc.umount2(folder.encode(), 2)  # MNT_DETACH
        os.close(device)  # who waits gets an error now
    sys.stdout.write(json.dumps(counts))


main()
