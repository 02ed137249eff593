# SPDX-License-Identifier: Apache-2.0
"""gRPC's own services: health, and server reflection; and what of gRPC is refused."""

import os
import shutil
import subprocess
import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool

import http2
from support import PATIENCE_S, Service, ServeTest, limiter, load_messages, main

health = load_messages("health")
reflection = load_messages("reflection")

SERVICES = {"weir.v1.Limiter", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "envoy.service.ratelimit.v3.RateLimitService"}
SERVING = health.HealthCheckResponse.SERVING
NOT_SERVING = health.HealthCheckResponse.NOT_SERVING


class Health(ServeTest):
    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1")
        channel = self.service.channel()
        codec = (health.HealthCheckRequest.SerializeToString,
                 health.HealthCheckResponse.FromString)
        self.check = channel.unary_unary("/grpc.health.v1.Health/Check", *codec)
        self.watch = channel.unary_stream("/grpc.health.v1.Health/Watch", *codec)

    def test_check(self):
        for name in ("", *SERVICES):
            answer = self.check(health.HealthCheckRequest(service=name), timeout=PATIENCE_S)
            self.assertEqual(answer.status, SERVING, name)
        self.assert_fails(grpc.StatusCode.NOT_FOUND, 'no service "weir.v1.Limiter2"', self.check,
                          health.HealthCheckRequest(service="weir.v1.Limiter2"),
                          timeout=PATIENCE_S)

    def test_watch_sees_the_drain(self):
        watches = [self.watch(health.HealthCheckRequest(service=name), timeout=PATIENCE_S)
                   for name in ("", "weir.v1.Limiter")]
        for watch in watches:
            self.assertEqual(next(watch).status, SERVING)
        self.service.end()
        for watch in watches:
            self.assertEqual(next(watch).status, NOT_SERVING)
            self.assert_fails(grpc.StatusCode.UNAVAILABLE, "about to end", next, watch)

    def test_watch_of_an_unknown_service(self):
        watch = self.watch(health.HealthCheckRequest(service="nope"), timeout=PATIENCE_S)
        self.assertEqual(next(watch).status, health.HealthCheckResponse.SERVICE_UNKNOWN)
        watch.cancel()


class Reflection(ServeTest):
    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1")
        self.channel = self.service.channel()

    def ask(self, *questions, version="v1"):
        """The answers to all questions, asked in one call."""
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection.ServerReflectionRequest.SerializeToString,
            reflection.ServerReflectionResponse.FromString)
        return list(call(iter([reflection.ServerReflectionRequest(**question)
                               for question in questions]), timeout=PATIENCE_S))

    def files(self, **question):
        answer, = self.ask(question)
        return [descriptor_pb2.FileDescriptorProto.FromString(file)
                for file in answer.file_descriptor_response.file_descriptor_proto]

    def test_services(self):
        for version in ("v1", "v1alpha"):
            answer, = self.ask({"list_services": "", "host": "here"}, version=version)
            self.assertEqual({one.name for one in answer.list_services_response.service},
                             SERVICES)
            self.assertEqual(answer.valid_host, "here")
            self.assertEqual(answer.original_request.host, "here")

    def test_each_service_can_be_called_by_what_is_told(self):
        """As a client without a .proto does: from the files alone."""
        pool = descriptor_pool.DescriptorPool()
        files = {file.name: file for name in SERVICES
                 for file in self.files(file_containing_symbol=name)}

        def add(name):
            """What it imports comes first."""
            file = files.pop(name, None)
            if file:
                for imported in file.dependency:
                    add(imported)
                pool.Add(file)

        for name in list(files):
            add(name)
        for name in SERVICES:
            self.assertGreater(len(pool.FindServiceByName(name).methods), 0)
        methods = pool.FindServiceByName("weir.v1.Limiter").methods_by_name
        self.assertEqual(methods["Allow"].input_type.fields_by_name["key"].number, 2)
        self.assertEqual({method.name for method in limiter.DESCRIPTOR
                          .services_by_name["Limiter"].methods}, set(methods))

    def test_symbols(self):
        for symbol in ("weir.v1.Limiter.Allow", "weir.v1.AllowRequest",
                       "weir.v1.AllowRequest.key", "weir.v1.Outcome", "weir.v1.OUTCOME_DENIED"):
            with self.subTest(symbol=symbol):
                self.assertEqual([file.name for file in self.files(file_containing_symbol=symbol)],
                                 ["weir/v1/limiter.proto"])
        nested = "grpc.health.v1.HealthCheckResponse.ServingStatus"
        for symbol in (nested, "grpc.health.v1.HealthCheckResponse.SERVING",
                       "grpc.health.v1.Health.Watch"):
            self.assertEqual(self.files(file_containing_symbol=symbol)[0].name,
                             "grpc/health/v1/health.proto")
        oneof = "grpc.reflection.v1alpha.ServerReflectionRequest.message_request"
        self.assertEqual(self.files(file_containing_symbol=oneof)[0].name,
                         "grpc/reflection/v1alpha/reflection.proto")
        self.assertEqual(self.files(file_by_filename="weir/v1/limiter.proto")[0].package,
                         "weir.v1")

    def test_what_is_not_there(self):
        answers = self.ask(
            {"file_containing_symbol": "weir.v1.Limiter.Nope"},
            {"file_containing_symbol": "weir.v1"}, {"file_containing_symbol": ""},
            {"file_containing_symbol": "weir.v1.Limiter."}, {"file_by_filename": "limiter.proto"},
            {"all_extension_numbers_of_type": "weir.v1.Nope"},
            {"file_containing_extension": {"containing_type": "weir.v1.Decision",
                                           "extension_number": 7}})
        self.assertEqual([answer.error_response.error_code for answer in answers],
                         [grpc.StatusCode.NOT_FOUND.value[0]] * 7)
        answer, = self.ask({"all_extension_numbers_of_type": "weir.v1.Decision"})
        self.assertEqual(answer.all_extension_numbers_response.base_type_name,
                         "weir.v1.Decision")
        answer, = self.ask({})
        self.assertEqual(answer.error_response.error_code,
                         grpc.StatusCode.INVALID_ARGUMENT.value[0])

    def test_many_questions_in_one_call(self):
        answers = self.ask(*[{"file_containing_symbol": "weir.v1.Limiter"}] * 100)
        self.assertEqual(len(answers), 100)


class Refused(ServeTest):
    """What is no gRPC, or gRPC that is not served here."""

    POLICIES = (("api", "10/365d"),)

    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1", "--max-message", "100000")
        self.channel = self.service.channel()

    def call(self, method="Allow", message=b"", **options):
        return self.channel.unary_unary("/weir.v1.Limiter/" + method)(
            message, timeout=PATIENCE_S, **options)

    def test_methods_that_are_not_there(self):
        for path in ("/weir.v1.Limiter/Nope", "/weir.v1.Nope/Allow", "/Allow", "/x" * 500,
                     "/weir.v1.Limiter/", "/weir.v1.Limiter/Allow/"):
            self.assert_fails(grpc.StatusCode.UNIMPLEMENTED, "no method", self.channel.unary_unary(
                path), b"", timeout=PATIENCE_S)

    def test_messages_that_are_none(self):
        for message in (b"\x0a", b"\xff" * 20, b"\x0a\x7fapi", b"\x07"):
            self.assert_fails(grpc.StatusCode.INVALID_ARGUMENT, "no weir.v1.AllowRequest",
                              self.call, message=message)

    def test_unknown_fields_are_ignored(self):
        asked = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
        answer = limiter.AllowResponse.FromString(self.call(message=asked + b"\xa0\x06\x07"))
        self.assertEqual(answer.decision.remaining, 9)

    def test_large_messages(self):
        asked = limiter.AllowRequest(policy="api", key=b"k" * 99000).SerializeToString()
        self.assert_fails(grpc.StatusCode.INVALID_ARGUMENT, "key has 99000 bytes", self.call,
                          message=asked)
        asked = limiter.AllowRequest(policy="api", key=b"k" * 100000).SerializeToString()
        self.assert_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than the service takes",
                          self.call, message=asked)

    def test_compressed_messages(self):
        """The client compresses what is worth it."""
        asked = limiter.AllowRequest(policy="api", key=b"k" * 9000).SerializeToString()
        for left in (9, 8):
            answer = limiter.AllowResponse.FromString(
                self.call(message=asked, compression=grpc.Compression.Gzip))
            self.assertEqual(answer.decision.remaining, left)
        self.assert_fails(grpc.StatusCode.UNIMPLEMENTED, "or by gzip", self.call, message=asked,
                          compression=grpc.Compression.Deflate)
        # Several in one call.
        stream = self.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection.ServerReflectionRequest.SerializeToString,
            reflection.ServerReflectionResponse.FromString)
        questions = [reflection.ServerReflectionRequest(file_containing_symbol="s" * 3000 + str(i))
                     for i in range(3)]
        answers = list(stream(iter(questions), timeout=PATIENCE_S,
                              compression=grpc.Compression.Gzip))
        self.assertEqual([answer.original_request for answer in answers], questions)

    def test_bombs(self):
        """What becomes larger than what may be sent is refused, however few bytes came."""
        before = http2.resident_bytes(self.service.process)
        for size in (100001, 50 << 20):
            self.assert_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "becomes larger than the service "
                              "takes, 100000", self.call, message=bytes(size),
                              compression=grpc.Compression.Gzip)
        self.assertLess(http2.resident_bytes(self.service.process) - before, 8 << 20)
        # As large as may be it is read, though zeros are no message.
        self.assert_fails(grpc.StatusCode.INVALID_ARGUMENT, "the 100000 bytes", self.call,
                          message=bytes(100000), compression=grpc.Compression.Gzip)

    def test_what_is_no_gzip(self):
        """Only a call fails by it."""
        with http2.Client(self.service.address) as client:
            for body in (b"", b"x", b"\x1f\x8b\x08" + bytes(20)):
                stream = client.begin(http2.request_headers(b"/weir.v1.Limiter/Allow",
                                                            (b"grpc-encoding", b"gzip")))
                client.send(http2.frame(http2.DATA, http2.END_STREAM, stream,
                                        b"\1" + http2.message(body)[1:]))
                answer = client.until(http2.HEADERS, stream)
                self.assertTrue(answer[1] & http2.END_STREAM)
            asked = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
            self.assertTrue(client.call(asked))

    def test_more_than_one_message(self):
        call = self.channel.stream_unary("/weir.v1.Limiter/Allow")
        one = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
        self.assert_fails(grpc.StatusCode.INTERNAL, "this method takes one", call,
                          iter([one, one]), timeout=PATIENCE_S)
        self.assert_fails(grpc.StatusCode.INTERNAL, "no message", call, iter([]),
                          timeout=PATIENCE_S)
        answer = limiter.AllowResponse.FromString(call(iter([one]), timeout=PATIENCE_S))
        self.assertEqual(answer.decision.remaining, 9)

    def test_the_longest_deadlines(self):
        """In hours: 584 years less a little, where adding the time now comes to more than a
        clock has; 584 years more a little; and as many as there can be."""
        for hours in (5124095, 5124096, 99999999):
            with http2.Client(self.service.address) as client:
                stream = client.begin(http2.request_headers(
                    b"/grpc.health.v1.Health/Check", (b"grpc-timeout", b"%dH" % hours)))
                client.send(http2.frame(http2.DATA, http2.END_STREAM, stream, http2.message(b"")))
                self.assertEqual(client.until(http2.DATA, stream)[3], http2.message(b"\x08\x01"))

    @unittest.skipUnless(shutil.which("nghttp"), "nghttp2-client is not installed")
    def test_requests_that_are_no_grpc(self):
        def status(*options):
            done = subprocess.run(
                ["nghttp", "-v", *options, f"http://{self.service.address}/weir.v1.Limiter/Allow"],
                stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
            return [line.split()[-1] for line in done.stdout.splitlines() if ":status:" in line]

        self.assertEqual(status(), ["405"])
        data = os.path.join(self.directory, "data")
        with open(data, "wb") as file:
            file.write(b"\0\0\0\0\0")
        self.assertEqual(status("-d", data), ["415"])
        self.assertEqual(status("-d", data, "-H", "content-type: application/json"), ["415"])
        self.assertEqual(status("-d", data, "-H", "content-type: application/grpc"), ["200"])


if __name__ == "__main__":
    main()
