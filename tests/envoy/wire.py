# SPDX-License-Identifier: Apache-2.0
"""Envoy's rate limit messages on the wire, written from their field numbers: what the
service says is read by something that does not share its .proto files.  And as JSON."""

import struct

CODES = {0: "UNKNOWN", 1: "OK", 2: "OVER_LIMIT"}
METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(field, value):
    return varint(field << 3) + varint(value) if value else b""


def bytes_field(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def encode_descriptor(descriptor):
    out = b""
    for key, value in descriptor["entries"]:
        entry = b""
        if key:
            entry += bytes_field(1, key.encode())
        if value:
            entry += bytes_field(2, value.encode())
        out += bytes_field(1, entry)
    if "limit" in descriptor:
        requests, unit = descriptor["limit"]
        out += bytes_field(2, number_field(1, requests) + number_field(2, unit))
    if "hits" in descriptor:
        out += bytes_field(3, number_field(1, descriptor["hits"]))
    return out


def encode_request(request):
    out = bytes_field(1, request["domain"].encode()) if request["domain"] else b""
    for descriptor in request["descriptors"]:
        out += bytes_field(2, encode_descriptor(descriptor))
    return out + number_field(3, request.get("hits", 0))


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data):
    """(number, value) of a message; a value is a number or bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            length, at = read_varint(data, at)
            value, at = data[at:at + length], at + length
        elif kind == 1:
            value, at = data[at:at + 8], at + 8
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def decode_value(data):
    for number, value in fields(data):
        if number == 1:
            return None
        if number == 2:
            return struct.unpack("<d", value)[0]
        if number == 3:
            return value.decode()
        if number == 4:
            return bool(value)
        if number == 5:
            return decode_struct(value)
        return [decode_value(item) for _, item in fields(value)]
    raise ValueError("a Value without a kind")


def decode_struct(data):
    out = {}
    for _, entry in fields(data):
        pair = dict(fields(entry))
        out[pair.get(1, b"").decode()] = decode_value(pair[2])
    return out


def decode_limit(data):
    limit = dict(fields(data))
    return {"requests_per_unit": limit.pop(1, 0), "unit": limit.pop(2, 0),
            "name": limit.pop(3, b"").decode(), "more": limit}


def decode_status(data):
    status = dict(fields(data))
    out = {"code": CODES[status.pop(1, 0)], "limit_remaining": status.pop(3, 0)}
    if 2 in status:
        out["current_limit"] = decode_limit(status.pop(2))
    if 4 in status:
        reset = dict(fields(status.pop(4)))
        out["duration_until_reset"] = reset.pop(1, 0)
        status.update(reset)
    out["more"] = status
    return out


def decode_header(data):
    header = dict(fields(data))
    return tuple(header.get(number, b"").decode() for number in (1, 2, 3))


def decode_response(data):
    out = {"overall_code": "UNKNOWN", "statuses": [], "response_headers_to_add": [],
           "request_headers_to_add": [], "raw_body": b"", "dynamic_metadata": None, "more": {}}
    for number, value in fields(data):
        if number == 1:
            out["overall_code"] = CODES[value]
        elif number == 2:
            out["statuses"].append(decode_status(value))
        elif number == 3:
            out["response_headers_to_add"].append(decode_header(value))
        elif number == 4:
            out["request_headers_to_add"].append(decode_header(value))
        elif number == 5:
            out["raw_body"] = value
        elif number == 6:
            out["dynamic_metadata"] = decode_struct(value)
        else:
            out["more"][number] = value
    return out


UNITS = ["UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"]


def json_request(request):
    """As JSON, in one of the ways in which protobuf's JSON says the same: as_json, from 1."""
    style = request["as_json"]
    hits, requests_per_unit = (("hitsAddend", "requestsPerUnit") if style < 3 else
                               ("hits_addend", "requests_per_unit"))

    def number(value):
        return [value, str(value), float(value), f"{value}.0"][style - 1]

    out = {"domain": request["domain"], hits: number(request.get("hits", 0)), "descriptors": []}
    for descriptor in request["descriptors"]:
        one = {"entries": [{"key": key, "value": value} for key, value in descriptor["entries"]]}
        if "limit" in descriptor:
            requests, unit = descriptor["limit"]
            one["limit"] = {requests_per_unit: number(requests),
                            "unit": UNITS[unit] if unit < 7 and style < 3 else unit}
        if "hits" in descriptor:
            one[hits] = number(descriptor["hits"])
        out["descriptors"].append(one)
    return out


def as_doubles(value):
    """Numbers of a Struct are doubles, however JSON writes them."""
    if isinstance(value, dict):
        return {key: as_doubles(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_doubles(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def from_json(answer):
    """A response as decode_response() has it."""
    statuses = []
    for one in answer.pop("statuses"):
        status = {"code": one.pop("code"), "limit_remaining": one.pop("limitRemaining", 0)}
        if "currentLimit" in one:
            limit = one.pop("currentLimit")
            status["current_limit"] = {
                "requests_per_unit": limit.pop("requestsPerUnit", 0),
                "unit": UNITS.index(limit.pop("unit")), "name": limit.pop("name", ""),
                "more": limit}
        if "durationUntilReset" in one:
            status["duration_until_reset"] = int(one.pop("durationUntilReset").rstrip("s"))
        status["more"] = one
        statuses.append(status)
    return {"overall_code": answer.pop("overallCode"), "statuses": statuses,
            "response_headers_to_add": [
                (header["key"], header["value"], "")
                for header in answer.pop("responseHeadersToAdd", [])],
            "request_headers_to_add": [], "raw_body": b"",
            "dynamic_metadata": as_doubles(answer.pop("dynamicMetadata", None)), "more": answer}
