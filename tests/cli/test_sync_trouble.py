# SPDX-License-Identifier: Apache-2.0
"""sync status, when something is wrong with Redis: what it says, and that it forgets it."""

import os
import signal
import socket
import threading

from redis_server import require_redis
from support import main
from test_sync import Host, Sync

PASSWORD = "s3cret-w0rd"
ALL = list(range(8))

# user: what may be done with ~keys.
USERS = {
    "off": f"off >{PASSWORD} ~* +@all",
    "noload": f"on >{PASSWORD} ~weir:* +@all -script|load",
    "noset": f"on >{PASSWORD} ~weir:* +@all -set",
    "nohset": f"on >{PASSWORD} ~weir:* +@all -hset",
    "nokeys": f"on >{PASSWORD} ~other:* +@all",
}

RIGHTS = "allow the user +evalsha +script|load +select +info, the keys, and what else weir(7) lists"

# How the URL begins and ends: the kind, and what the sentence says.
TROUBLES = {
    "missing": ("", "", "noauth", "Redis wants a password: write user:password@"),
    "wrong": (":not-it@", "", "wrongpass", "AUTH was refused (wrongpass); check user and password"),
    "nobody": (f"nobody:{PASSWORD}@", "", "wrongpass", "unix://nobody:***@"),
    "off": (f"off:{PASSWORD}@", "", "wrongpass", "check user and password, and Redis' ACL"),
    "noload": (f"noload:{PASSWORD}@", "", "noperm", RIGHTS),
    "noset": (f"noset:{PASSWORD}@", "", "noperm", "run the 'set' command"),
    "nohset": (f"nohset:{PASSWORD}@", "", "noperm", RIGHTS),
    "nokeys": (f"nokeys:{PASSWORD}@", "", "noperm", "to access one of the keys"),
    "database": (f":{PASSWORD}@", "&db=99", "database",
                 "db=99: SELECT was refused (database: ERR DB index is out of range); "
                 "Redis has no such database"),
}


class Other(threading.Thread):
    """What listens where Redis should, and answers anything with WORDS."""

    def __init__(self, path, words):
        super().__init__(daemon=True)
        self.words = words
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                connection.sendall(self.words)


class Trouble(Sync):
    def tell(self, *commands, password=PASSWORD):
        """Make calls of Redis, as somebody who may."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.redis.socket)
            replies = connection.makefile("rb")
            for command in (f"AUTH {password}", *commands) if password else commands:
                connection.sendall(command.encode() + b"\r\n")
                self.assertTrue(replies.readline().startswith(b"+OK"), command)

    def host(self, name, url):
        host = Host(self, name, self.secret)
        host.run("--redis", url)
        return host

    def trouble(self, host, kind):
        found = host.status()["trouble"]
        return found if found and found["kind"] == kind else None

    def test_what_is_refused(self):
        self.redis.start()
        self.tell(*(f"ACL SETUSER {user} {rights}" for user, rights in USERS.items()),
                  f"CONFIG SET requirepass {PASSWORD}", password=None)
        url = f"{self.redis.socket}?command_ms=2000"
        hosts = {name: self.host(name, f"unix://{begin}{url}{end}")
                 for name, (begin, end, _, _) in TROUBLES.items()}
        for name, (_, _, kind, says) in TROUBLES.items():
            with self.subTest(name=name):
                host = hosts[name]
                trouble = self.wait(self.trouble, host, kind)
                self.assertIn(says, trouble["message"])
                self.assertIn(self.redis.socket, trouble["message"])
                self.assertEqual(trouble["shards"], ALL)
                self.assertGreater(trouble["for_ns"], 0)
                # Standard error tells that policies could not be compared, either.
                text, errors = map(bytes.decode, self.run_weir("sync", "status", *host.at))
                self.assertRegex(text, f"(?m)^trouble +{kind}, for .*, of 8 of 8 shards: 0, 1, 2, "
                                       "3, 4, 5, 6, 7$")
                self.assertIn(trouble["message"], text)
                for word in (PASSWORD, "not-it"):
                    self.assertNotIn(word, text + errors + host.said())

    def test_what_is_no_redis(self):
        def at(name, words):
            path = os.path.join(self.directory, name)
            listener = Other(path, words).listener
            self.addCleanup(listener.close)
            return f"unix://:{PASSWORD}@{path}"

        missing = os.path.join(self.directory, "missing")
        hosts = [
            (self.host("web", at("http", b"HTTP/1.1 400 Bad Request\r\n\r\n")), "protocol",
             "the answer is not Redis' protocol"),
            (self.host("closing", at("closes", b"")), "cut", "check Redis' log"),
            (self.host("old", at("redis5", b"-ERR wrong number of arguments for 'auth' command\r\n"
                                 + b"-NOAUTH Authentication required.\r\n" * 9)), "wrongpass",
             "Redis before 6.0 has no users"),
            (self.host("open", at("redis", b"-ERR AUTH <password> called without any password "
                                           b"configured for the default user.\r\n")), "wrongpass",
             "Redis has no password for that user: leave it out of the URL"),
            (self.host("nowhere", f"unix://:{PASSWORD}@{missing}"), "connect",
             f"{missing}: cannot connect (No such file or directory)"),
        ]
        for host, kind, says in hosts:
            with self.subTest(says=says):
                trouble = self.wait(self.trouble, host, kind)
                self.assertIn(says, trouble["message"])
                self.assertEqual(trouble["shards"], ALL)
                self.assertEqual(host.status()["state"], "not connected")
                self.assertNotIn(PASSWORD, trouble["message"] + host.said())

    def test_one_shard_and_a_new_leader(self):
        self.redis.start()
        host = Host(self, "host", self.secret)
        runner = host.run()
        self.wait(host.is_merged, 1)
        self.assertIsNone(host.status()["trouble"])
        self.tell("SET weir:{5} others", password=None)
        trouble = self.wait(self.trouble, host, "wrongtype")
        self.assertEqual(trouble["shards"], [5])
        self.assertIn("another program uses that key", trouble["message"])
        self.assertEqual(host.status()["state"], "connected")

        # Nobody leads: the status says so, and still what was wrong, since when.
        runner.kill()
        runner.wait()
        status = self.wait(lambda: host.status()["leader_silent_ns"] and host.status())
        self.assertEqual((status["state"], status["connected"]), ("leader silent", False))
        self.assertIn("start `weir sync run`", self.weir("sync", "status", *host.at))
        self.assertGreater(status["trouble"]["for_ns"], trouble["for_ns"])

        # It goes on under the next leader, and has begun when it began.
        host.run()
        status = self.wait(lambda: host.status()["state"] == "connected" and host.status())
        later = self.wait(self.trouble, host, "wrongtype")
        self.assertGreater(later["for_ns"], trouble["for_ns"])
        self.tell("RENAME weir:{5} other", password=None)
        self.wait(lambda: host.status()["trouble"] is None)
        self.assertEqual(host.status()["leader_silent_ns"], 0)

    def test_paused_and_stopped(self):
        self.redis.start()
        host = Host(self, "host", self.secret)
        runner = host.run()
        self.wait(host.is_merged, 1)
        self.redis.process.send_signal(signal.SIGSTOP)
        self.wait(self.trouble, host, "timeout")
        self.weir("sync", "pause", *host.at)
        status = host.status()
        self.assertEqual((status["state"], status["trouble"]), ("paused", None))
        self.weir("sync", "resume", *host.at)
        self.wait(self.trouble, host, "timeout")
        self.redis.process.send_signal(signal.SIGCONT)
        self.wait(lambda: host.status()["trouble"] is None)
        runner.terminate()
        runner.wait()
        self.assertEqual(host.status()["state"], "no leader")


if __name__ == "__main__":
    require_redis()
    main()
