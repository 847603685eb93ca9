# A client that does what Go's and OpenSSH's cannot be made to. Each scenario prints one JSON object.
#   hostile.py PORT SCENARIO JSON-ARGUMENTS
import hashlib, json, socket, sys, threading, time

import paramiko
from paramiko import common
from paramiko.auth_handler import AuthHandler
from paramiko.message import Message

port, scenario, given = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])


def request_auth(self):
    """Asks for the service once in a connection; paramiko does for every step, which ends it."""
    if getattr(self.transport, "serves", False):
        m = Message()
        m.add_string("ssh-userauth")
        m.rewind()
        self._parse_service_accept(m)
        return
    self.transport.serves = True
    ask_for_service(self)


ask_for_service = AuthHandler._request_auth
AuthHandler._request_auth = request_auth


def connect():
    s = socket.create_connection(("127.0.0.1", port), 30)
    t = paramiko.Transport(s)
    t.banner_timeout = t.auth_timeout = 60
    t.start_client(timeout=30)
    return t


def login(t, user, password, code):
    def answer(title, instructions, prompts):
        return [password if p.startswith("Password") else code for p, _ in prompts]
    return t.auth_interactive(user, answer)


def answers():
    """Answers each question with as many answers of a size as were given."""
    t, rounds = connect(), 0

    def answer(title, instructions, prompts):
        nonlocal rounds
        rounds += 1
        return ["x" * given["size"]] * given["count"]
    how = "went on"
    for _ in range(50):
        try:
            t.auth_interactive(given["user"], answer)
            how = "in"
            break
        except paramiko.AuthenticationException:
            pass
        except Exception:
            how = "cut"
        if not t.is_active():
            how = "cut"
            break
    return {"rounds": rounds, "end": how}


def rename():
    """Begins as one user and goes on as another."""
    t = connect()
    try:
        left = t.auth_password(given["first"], given["password"])
        login(t, given["second"], given["password"], given["code"])
        return {"in": t.is_authenticated(), "left": left}
    except Exception as e:
        return {"in": t.is_authenticated(), "error": repr(e)}


def passwords():
    """Asks for partial success without end."""
    t, n = connect(), 0
    while t.is_active() and n < 1000:
        n += 1
        try:
            t.auth_password(given["user"], "x", fallback=False)
        except Exception:
            pass
        if t.is_authenticated():
            return {"n": n, "in": True}
    return {"n": n, "in": False, "cut": not t.is_active()}


def keyquery():
    """Asks without end whether a key would do, and never proves it."""
    t, n = connect(), 0
    m = Message()
    m.add_byte(common.cMSG_SERVICE_REQUEST)
    m.add_string("ssh-userauth")
    t._send_message(m)
    kind, key = given["key"].split()[:2]
    import base64
    key = base64.b64decode(key)
    while t.is_active() and n < 100000:
        m = Message()
        m.add_byte(common.cMSG_USERAUTH_REQUEST)
        m.add_string(given["user"])
        m.add_string("ssh-connection")
        m.add_string("publickey")
        m.add_boolean(False)
        m.add_string(kind)
        m.add_string(key)
        try:
            t._send_message(m)
        except Exception:
            break
        n += 1
    return {"n": n, "in": t.is_authenticated()}


def order():
    """Sends global requests in one go and tells the kinds of answers in their order."""
    t = connect()
    login(t, given["user"], given["password"], given["code"])
    got, done = [], threading.Event()

    def note(kind):
        def f(self, m):
            got.append(kind)
            if len(got) == len(given["requests"]):
                done.set()
        return f
    t._handler_table = dict(t._handler_table)
    t._handler_table[common.MSG_REQUEST_SUCCESS] = note("yes")
    t._handler_table[common.MSG_REQUEST_FAILURE] = note("no")
    for name in given["requests"]:
        m = Message()
        m.add_byte(common.cMSG_GLOBAL_REQUEST)
        m.add_string(name)
        m.add_boolean(True)
        if name == "tcpip-forward":
            m.add_string("127.0.0.1")
            m.add_int(given["ports"].pop(0))
        t._send_user_message(m)
    done.wait(30)
    t.close()
    return {"got": got}


def burst():
    """Sends a command, its input and the end of it without waiting for any answer."""
    t = connect()
    login(t, given["user"], given["password"], given["code"])
    c = t.open_channel("session")
    data = hashlib.sha256(b"seed").digest() * (given["size"] // 32)
    m = Message()
    m.add_byte(common.cMSG_CHANNEL_DATA)
    m.add_int(c.remote_chanid)
    m.add_string(data[:1000])
    t._send_user_message(m)  # even before the command
    m = Message()
    m.add_byte(common.cMSG_CHANNEL_REQUEST)
    m.add_int(c.remote_chanid)
    m.add_string("exec")
    m.add_boolean(False)
    m.add_string(given["command"])
    t._send_user_message(m)
    c.out_window_size -= 1000
    c.sendall(data[1000:])
    c.shutdown_write()
    out = b""
    while True:
        b = c.recv(65536)
        if not b:
            break
        out += b
    status = c.recv_exit_status()
    t.close()
    return {"out": out.decode(), "want": hashlib.sha256(data).hexdigest(), "status": status}


json.dump({"answers": answers, "rename": rename, "passwords": passwords, "keyquery": keyquery, "order": order, "burst": burst}[scenario](), sys.stdout)
