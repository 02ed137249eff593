# SPDX-License-Identifier: Apache-2.0
"""Starting, reloading, draining, and restarting without a client noticing."""

import os
import signal
import socket
import subprocess
import threading

import grpc

import http2
from support import PATIENCE_S, PROGRAM, SERVICE, Limiter, Service, ServeTest, limiter, main


class Slow:
    """A call of Allow whose request is begun, and ended when it is told to."""

    def __init__(self, channel):
        self.goes_on = threading.Event()
        self.begun = threading.Event()
        call = channel.stream_unary("/weir.v1.Limiter/Allow",
                                    limiter.AllowRequest.SerializeToString,
                                    limiter.AllowResponse.FromString)
        # Headers leave with the first message, if the client may wait for more of them.
        self.future = call.future(self.messages(), timeout=PATIENCE_S)
        self.begun.wait(PATIENCE_S)

    def messages(self):
        self.begun.set()
        self.goes_on.wait(PATIENCE_S)
        yield limiter.AllowRequest(policy="api", key=b"slow")

    def end(self):
        self.goes_on.set()
        return self.future.result(PATIENCE_S).decision


class Draining(ServeTest):
    POLICIES = (("api", "10/365d"),)

    def begin(self, *options):
        """A service with a call under way that has reached it."""
        self.service = Service(self, "--threads", "1", *options)
        channel = self.service.channel()
        asked = self.service.limiter()
        slow = Slow(channel)
        # The same connection: this one's answer comes after that one's headers.
        asked.GetStatus(policy="api", key=b"k")
        return slow

    def wait_until_refused(self):
        host, port = self.service.address.rsplit(":", 1)
        while True:
            try:
                with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
                    # Accepted in the last moment: it is told to go.
                    while client.recv(4096):
                        pass
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass

    def test_calls_under_way_are_answered(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            slow = self.begin()
            self.service.process.send_signal(number)
            self.wait_until_refused()
            decision = slow.end()
            self.assertEqual(decision.outcome, limiter.OUTCOME_ALLOWED)
            self.assertEqual(self.service.process.wait(PATIENCE_S), 0)
            self.assertEqual(self.service.process.stderr.read(), "")

    def test_patience_has_a_bound(self):
        slow = self.begin("--drain-timeout", "0")
        self.assertIn("1 connections are cut off", self.service.end())
        slow.goes_on.set()

    def test_another_signal_ends_it_at_once(self):
        slow = self.begin("--drain-timeout", "3600")
        self.service.process.send_signal(signal.SIGTERM)
        self.wait_until_refused()
        self.assertIn("cut off", self.service.end())
        slow.goes_on.set()

    def test_what_is_left_to_others_is_not_charged(self):
        """A call that begins when the last word is said: its client may repeat it elsewhere, if
        that word leaves it out, so it must not be charged here then."""
        service = Service(self, "--threads", "1")
        asked = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
        with http2.Client(service.address) as client:
            self.assertTrue(client.call(asked))
            service.process.send_signal(signal.SIGTERM)
            ping = client.until(http2.PING)
            late = client.next_stream
            client.send(http2.frame(http2.PING, http2.ACK, 0, ping[3]) +
                        http2.frame(http2.HEADERS, http2.END_HEADERS, late,
                                    http2.request_headers()) +
                        http2.frame(http2.DATA, http2.END_STREAM, late, http2.message(asked)))
            last = None
            while found := client.frame():
                if found[0] == http2.GOAWAY:
                    last = int.from_bytes(found[3][:4], "big")
        self.assertEqual(service.process.wait(PATIENCE_S), 0)
        remaining = Service(self).limiter().GetStatus(policy="api", key=b"k").decision.remaining
        self.assertEqual(10 - remaining, 2 if late <= last else 1)

    def test_an_idle_client_does_not_keep_it(self):
        service = Service(self, "--drain-timeout", "3600")
        for _ in range(5):
            service.limiter().GetStatus(policy="api", key=b"k")
        with socket.create_connection(service.address.rsplit(":", 1)):
            self.assertEqual(service.end(), "")


class Restarting(ServeTest):
    POLICIES = (("api", "1000000/365d"),)

    class Clients:
        """Threads that ask all the time, and whose calls must all be answered."""

        def __init__(self, address, count):
            self.address = address
            self.stop = threading.Event()
            self.asked = [0] * count
            self.errors = []
            self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
            for thread in self.threads:
                thread.start()

        def run(self, index):
            options = (("grpc.use_local_subchannel_pool", 1),)
            with grpc.insecure_channel(self.address, options) as channel:
                allow = channel.unary_unary("/weir.v1.Limiter/Allow",
                                            limiter.AllowRequest.SerializeToString,
                                            limiter.AllowResponse.FromString)
                while not self.stop.is_set():
                    try:
                        allow(limiter.AllowRequest(policy="api", key=b"k"), timeout=PATIENCE_S,
                              wait_for_ready=True)
                    except grpc.RpcError as error:
                        self.errors.append((error.code(), error.details()))
                        return
                    self.asked[index] += 1

        def end(self):
            self.stop.set()
            for thread in self.threads:
                thread.join()

    def restart(self, address):
        service = Service(self, addresses=("--grpc", address))
        address = service.address
        clients = self.Clients(address, 3)
        self.addCleanup(clients.stop.set)
        for _ in range(3):
            before = list(clients.asked)
            while not clients.errors and any(now < then + 20 for now, then
                                             in zip(clients.asked, before)):
                pass
            new = Service(self, "--takeover", addresses=("--grpc", address))
            self.assertEqual(service.end(), "")
            service = new
        clients.end()
        self.assertEqual(clients.errors, [])
        # No bucket was lost, and nothing charged twice.
        remaining = service.limiter().GetStatus(policy="api", key=b"k").decision.remaining
        self.assertEqual(remaining, 1000000 - sum(clients.asked))

    def test_tcp(self):
        self.restart("127.0.0.1:0")

    def test_unix(self):
        path = os.path.join(self.directory, "socket")
        self.restart("unix:" + path)
        self.assertTrue(os.path.exists(path))


class Starting(ServeTest):
    POLICIES = (("api", "10/365d"),)

    def test_the_program_becomes_it(self):
        with subprocess.Popen([PROGRAM, "--segment", self.segment, "serve", "--grpc",
                               "127.0.0.1:0"], env=self.environment, stderr=subprocess.PIPE,
                              text=True) as service:
            address = service.stderr.readline().split()[-1]
            asked = Limiter(grpc.insecure_channel(address))
            self.assertEqual(asked.Allow(policy="api", key=b"k").decision.remaining, 9)
            asked.channel.close()
            service.terminate()
            self.assertEqual(service.wait(PATIENCE_S), 0)

    def refused(self, *options):
        """What a service that does not start says."""
        done = subprocess.run([SERVICE, "--segment", self.segment, *options],
                              env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_errors(self):
        file = os.path.join(self.directory, "file")
        with open(file, "w", encoding="utf-8"):
            pass
        for options, says in (
            (("--segment", os.path.join(self.directory, "nope")), "nope"),
            (("--create", "--redis", "unix:///nowhere"), "--secret-file"),
            (("--secret-file", file), "--create"),
            (("--create", "--secret-file", file), "holds no secret"),
            (("--grpc", "127.0.0.1"), '"127.0.0.1" has no port; give HOST:PORT'),
            (("--grpc", "127.0.0.1:"), "has no port"),
            (("--grpc", "127.0.0.1:x"), 'is "x"; give a number from 0 to 65535'),
            (("--grpc", "127.0.0.1:65536"), 'is "65536"'),
            (("--grpc", "::1:80"), "give an IPv6 address as [ADDRESS]:PORT"),
            (("--grpc", "no.such.host.invalid:80"), "has no address here"),
            (("--grpc", "203.0.113.1:0"), "cannot listen on 203.0.113.1:0"),
            (("--grpc", "unix:"), "the path"),
            (("--grpc", "unix:" + "x" * 100), "has 100 bytes; give one of 1 to"),
            (("--grpc", "unix:/nonexistent/socket"), "look at its directory"),
            (("--grpc", "unix:" + file), "is a file, and no socket"),
            (("--grpc-tls", "127.0.0.1:0"), "needs a certificate"),
            (("--tls-certificate", "x", "--tls-key", "y"), "without an address"),
            (("--tls-client-name", "x"), "nothing says who may sign"),
            (("--grpc-tls", "127.0.0.1:0", "--tls-certificate", file, "--tls-key", file),
             "--tls-certificate"),
            (("--threads", "0"), "--threads is 0"),
            (("--socket-mode", "0990"), '--socket-mode is "0990"'),
            (("--max-connections", "1000000"), "--max-connections"),
            (("--policies", file), "policies"),
            (("--redis", "redis://127.0.0.1"), "no room for sync"),
            (("--grcp", "x"), "did you mean --grpc?"),
            (("x",), 'stray argument "x"'),
        ):
            with self.subTest(options=options):
                if options[0] != "--grpc" and options[0] != "--grpc-tls":
                    options = (*options, "--grpc", "127.0.0.1:0")
                if options[:1] == ("--max-connections",) and self.unlimited():
                    continue
                self.assertIn(says, self.refused(*options))
        self.assertTrue(os.path.exists(file))

    @staticmethod
    def unlimited():
        import resource
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1100000

    def test_an_address_is_not_shared_by_mistake(self):
        path = os.path.join(self.directory, "socket")
        service = Service(self, addresses=("--grpc", "127.0.0.1:0", "--grpc", "unix:" + path))
        for address in service.addresses:
            said = self.refused("--grpc", address)
            self.assertIn("somebody listens on", said)
            self.assertIn("--takeover", said)
        # It goes on as before, and a socket that nobody serves is replaced.
        self.assertEqual(service.limiter("unix:" + path).GetStatus(policy="api", key=b"k")
                         .decision.limit, 10)
        service.process.kill()
        service.process.wait()
        self.assertTrue(os.path.exists(path))
        Service(self, addresses=("--grpc", "unix:" + path)).end()
        self.assertFalse(os.path.exists(path))

    def test_addresses_do_not_overlap(self):
        """SO_REUSEPORT would deal an address's clients out to both of its protocols."""
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            for grpc, http in ((f"127.0.0.1:{port}", f"127.0.0.1:{port}"),
                               (f":{port}", f"127.0.0.1:{port}"),
                               (f"127.0.0.2:{port}", f"0.0.0.0:{port}"),
                               (f"0.0.0.0:{port}", f":{port}")):
                said = self.refused("--takeover", "--grpc", grpc, "--http", http)
                self.assertIn(f'HTTP on "{http}" would share an address with gRPC on "{grpc}"',
                              said)
        for nobody in ("[]:0", "*:0"):
            self.assertIn("has no host; give :PORT", self.refused("--grpc", nobody))
        Service(self, addresses=("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
                                 "--http", "127.0.0.2:0")).end()

    def test_who_may_use_a_unix_socket(self):
        path = os.path.join(self.directory, "socket")
        for mode in ("0600", "666"):
            service = Service(self, "--socket-mode", mode, addresses=("--grpc", "unix:" + path))
            self.assertEqual(os.stat(path).st_mode & 0o777, int(mode, 8))
            service.end()

    def test_without_standard_descriptors(self):
        """What it says must not be written to what was opened in their place."""
        with open(self.segment + ".weir1", "rb") as file:
            begin = file.read(64)
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 2>&-', "sh", SERVICE, "--segment", self.segment, "--grpc",
             f"unix:{self.directory}/socket"], env=self.environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        asked = Limiter(grpc.insecure_channel(f"unix:{self.directory}/socket"))
        self.addCleanup(asked.channel.close)
        self.assertEqual(asked.Allow(policy="api", key=b"k").decision.remaining, 9)
        process.terminate()
        self.assertEqual(process.wait(PATIENCE_S), 0)
        with open(self.segment + ".weir1", "rb") as file:
            self.assertEqual(file.read(64), begin)
        self.assertIn('"remaining":9', self.weir("--json", "status", "api", "k").replace(" ", ""))

    def test_a_segment_that_is_removed(self):
        """It goes on, and says that others do not find what it counts."""
        service = Service(self)
        asked = service.limiter()
        self.assertEqual(asked.Allow(policy="api", key=b"k").decision.remaining, 9)
        self.weir("remove")
        service.expect("segment.weir1 was removed: this service goes on")
        self.assertEqual(asked.Allow(policy="api", key=b"k").decision.remaining, 8)
        self.assertEqual(service.end(), "")

    def test_a_segment_that_is_replaced(self):
        service = Service(self)
        self.weir("create", "--slots", "1024", "--segment", self.segment + "-new")
        os.rename(self.segment + "-new.weir1", self.segment + ".weir1")
        service.expect("segment.weir1 is another segment now: this service goes on")
        self.assertEqual(service.end(), "")

    def test_the_segment_is_made(self):
        segment = os.path.join(self.directory, "made")
        policies = os.path.join(self.directory, "policies.yaml")
        with open(policies, "w", encoding="utf-8") as file:
            file.write("policies:\n  - name: web\n    limits: [7/1h]\n")
        for remaining in (6, 5):
            service = Service(self, "--create", "--slots", "100", "--policies", policies,
                              segment=segment)
            decision = service.limiter().Allow(policy="web", key=b"k").decision
            self.assertEqual((decision.limit, decision.remaining), (7, remaining))
            service.end()

    def test_a_full_segment_is_told(self):
        segment = os.path.join(self.directory, "small")
        policies = os.path.join(self.directory, "policies.yaml")
        with open(policies, "w", encoding="utf-8") as file:
            file.write("policies:\n  - name: web\n    limits: [7/1h]\n")
        service = Service(self, "--create", "--slots", "16", "--policies", policies,
                          segment=segment)
        asked = service.limiter()
        for i in range(100):
            asked.AllowN(policy="web", key=b"%d" % i, cost=7)
        said = service.process.stderr.readline()
        self.assertRegex(said, "the segment's 16 slots are too few: [0-9]+ requests found no room")
        self.assertIn("more --slots", said)
        # Once a minute, and not for each request.
        for i in range(100, 200):
            asked.AllowN(policy="web", key=b"%d" % i, cost=7)
        self.assertEqual(service.end(), "")

    def test_policies_are_loaded_again(self):
        policies = os.path.join(self.directory, "policies.yaml")

        def write(text):
            with open(policies, "w", encoding="utf-8") as file:
                file.write(text)

        write("policies:\n  - name: web\n    limits: [7/1h]\n")
        service = Service(self, "--policies", policies)
        asked = service.limiter()
        self.assertEqual(asked.GetStatus(policy="web", key=b"k").decision.limit, 7)
        write("policies:\n  - name: web\n    limits: [seven]\n")
        service.process.send_signal(signal.SIGHUP)
        self.assertIn("the policies stay as they were", service.process.stderr.readline())
        self.assertEqual(asked.GetStatus(policy="web", key=b"k").decision.limit, 7)
        # Nobody writes to the pipe, and the service does not wait.
        os.unlink(policies)
        os.mkfifo(policies)
        service.process.send_signal(signal.SIGHUP)
        service.expect("policies.yaml\" is no regular file; put one there")
        os.unlink(policies)
        write("policies:\n  - name: web\n    limits: [8/1h]\n")
        service.process.send_signal(signal.SIGHUP)
        while asked.GetStatus(policy="web", key=b"k").decision.limit != 8:
            pass
        self.assertEqual(service.end(), "")

    def test_systemd_is_told(self):
        path = os.path.join(self.directory, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(path)
            told.settimeout(PATIENCE_S)
            self.environment["NOTIFY_SOCKET"] = path
            service = Service(self)
            self.assertEqual(told.recv(100), b"READY=1")
            service.end()
            self.assertEqual(told.recv(100), b"STOPPING=1")


if __name__ == "__main__":
    main()
