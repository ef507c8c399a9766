"""A card just clever enough to be torn out: run by the PC/SC tests as a process inside a private daemon's network.

`toy_card.py PORT ATR_HEX`. Reads one command a line from standard input (insert, remove, swap: remove and insert at
once) and repeats it when it is done. Answers INS 84 with P2 bytes and 9000, CA with the command itself and 9000, DD by
tearing itself out, EE with 9000 after P1 * 100 ms; anything else with 6D00. With an empty ATR it is mute.
"""

import contextlib
import socket
import sys
import threading
import time

_OK = b"\x90\x00"


def answer(command: bytes) -> bytes | None:
    match command[1]:
        case 0x84:
            return bytes(command[3]) + _OK
        case 0xCA:
            return command + _OK
        case 0xDD:
            return None
        case 0xEE:
            time.sleep(command[2] / 10)
            return _OK
        case _:
            return b"\x6d\x00"


def take(line: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        # vpcd sends length and payload apart; without this each exchange costs 40 ms of delayed acknowledgement
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        more = line.recv(length - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve(line: socket.socket, atr: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            message = take(line, int.from_bytes(take(line, 2), "big"))
            if len(message) > 1:
                said = answer(message)
            elif message[0] == 4:
                said = atr
            else:  # power and reset have no answer
                continue
            if not said:
                break
            line.sendall(len(said).to_bytes(2, "big") + said)
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def insert(port: int, atr: bytes) -> socket.socket:
    while True:
        try:
            line = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.02)
            continue
        threading.Thread(target=serve, args=(line, atr), daemon=True).start()
        return line


def main(port: int, atr: bytes) -> None:
    line: socket.socket | None = None
    for word in map(str.strip, sys.stdin):
        if word in {"remove", "swap"} and line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        if word in {"insert", "swap"}:
            line = insert(port, atr)
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
