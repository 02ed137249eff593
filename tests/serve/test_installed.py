# SPDX-License-Identifier: Apache-2.0
"""What is installed beside the program: the dashboard asks for metrics that there are, and
systemd takes the unit."""

import http.client
import json
import os
import re
import shutil
import subprocess
import unittest

from support import PATIENCE_S, PROGRAM, Service, ServeTest, main


def metrics_of(query):
    """The names of the series in a query, and the labels that it goes by."""
    names = set(re.findall(r"\bweir_\w+", query))
    labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', query))
    for listed in re.findall(r"\bby\s*\(([^)]*)\)", query):
        labels |= set(listed.replace(" ", "").split(","))
    return names, labels


class Dashboard(ServeTest):
    POLICIES = (("api", "1/300d"),)

    def setUp(self):
        # A segment that syncs has all metrics.
        super().setUp()
        self.segment = os.path.join(self.directory, "synced")
        self.weir("create", "--slots", "1024", "--sync")
        self.weir("policy", "set", "api", "1/300d", "--consistency", "local")
        with open(os.environ["WEIR_DASHBOARD"], encoding="utf-8") as file:
            self.dashboard = json.load(file)

    def told(self):
        """What Prometheus would be told, once a key was denied often enough."""
        service = Service(self, "--redis", "unix://" + self.directory + "/nobody",
                          addresses=("--http", "127.0.0.1:0"))
        host, port = service.address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self.addCleanup(client.close)
        while True:
            client.request("POST", "/v1/allow?policy=api&key=k")
            client.getresponse().read()
            client.request("GET", "/metrics")
            text = client.getresponse().read().decode()
            if "weir_top_denied_requests{" in text:
                return text

    def test_queries(self):
        text = self.told()
        # Redis is not there, so no view has an age yet: the only one that is missing.
        told = set(re.findall(r"^(\w+)(?:\{| )", text, re.M)) | {"weir_sync_staleness_seconds"}
        labels = set(re.findall(r'(\w+)="', text)) | {"instance"}
        queries = [target["expr"] for panel in self.dashboard["panels"] for target in panel["targets"]]
        queries += [variable["query"]["query"] for variable in self.dashboard["templating"]["list"]
                    if variable["type"] == "query"]
        self.assertGreater(len(queries), 20)
        for query in queries:
            names, used = metrics_of(query)
            self.assertTrue(names, query)
            self.assertLessEqual(names, told, query)
            self.assertLessEqual(used, labels, query)
            for name in names:
                self.assertEqual(name.endswith("_total"), "rate(" in query or "label_values" in query
                                 and name.endswith("_total"), query)

    def test_form(self):
        panels = self.dashboard["panels"]
        self.assertEqual(len(panels), len({panel["id"] for panel in panels}))
        squares = set()
        for panel in panels:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            mine = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                    for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(mine & squares, panel["title"])
            squares |= mine


class Unit(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_verify(self):
        with open(os.environ["WEIR_UNIT"], encoding="utf-8") as file:
            unit = file.read()
        # The program is not installed: it is where it was built.
        self.assertRegex(unit, r"ExecStart=/\S+/weir serve ")
        unit = re.sub(r"=(-?)/\S+/weir ", lambda found: f"={found[1]}{PROGRAM} ", unit)
        directory = os.path.join(os.path.dirname(os.environ["WEIR_UNIT"]), "verify")
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, "weir-serve.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        # And it says what it is started with as the program understands it.
        options = re.search(r"WEIR_SERVE_OPTIONS=([^\"]*)", unit)[1].split()
        done = subprocess.run([PROGRAM, "serve", *options, "--help"], stdout=subprocess.PIPE,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    main()
