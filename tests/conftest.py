"""Shared by all tests: four fake CPU devices, so that code for several devices runs as such."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
