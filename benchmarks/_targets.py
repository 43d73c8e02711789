"""TPUs and GPUs that are not there, to compile for.

XLA's compilers need a description of the target and no driver. Import this before anything
else: it sets what JAX and libtpu read from the environment when they start.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # or else the CUDA plugin looks for a driver
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # asks no metadata server which TPU this is
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")

import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

# The figures are those of OpenXLA, xla/backends/gpu/target_config/specs/h100_sxm.txtpb and
# a100_sxm_80.txtpb.
GPUS = {
    "H100": {
        **{"name": "NVIDIA H100 80GB HBM3", "major": 9, "cores": 132, "fpus": 128, "clock": 1.98},
        **{"bandwidth": 3_352_320_000_000, "memory": 84_942_979_072, "l2": 52_428_800},
        **{"shared": 233_472, "optin": 232_448},
    },
    "A100": {
        **{"name": "NVIDIA A100-SXM4-80GB", "major": 8, "cores": 108, "fpus": 64, "clock": 1.41},
        **{"bandwidth": 2_039_040_000_000, "memory": 85_100_068_864, "l2": 41_943_040},
        **{"shared": 167_936, "optin": 166_912},
    },
}
GPU_TEMPLATE = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {optin}
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{name}"
"""


def mesh_of(target: str, devices: int) -> Mesh:
    """So many devices of a target, in one axis called `devices`.

    Args:
        target: A key of `GPUS`, or a TPU's topology such as `v5e:2x2`.
        devices: At most as many as the topology has; of GPUs 8 make one host.

    Raises:
        Exception: whatever XLA raises if the compiler for the target is not installed.
    """
    if target in GPUS:
        hosts, each = max(1, devices // 8), min(devices, 8)
        found = topologies.get_topology_desc(
            target,
            platform="cuda",
            target_config=GPU_TEMPLATE.format(**GPUS[target]),
            topology=f"1x{hosts}x{each}",
        ).devices
    else:
        found = topologies.get_topology_desc(platform="tpu", topology_name=target).devices
    chosen = np.array(found[:devices], dtype=object)
    return Mesh(chosen, ("devices",), axis_types=(AxisType.Auto,))
