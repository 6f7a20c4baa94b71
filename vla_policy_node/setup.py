from glob import glob

from setuptools import find_packages, setup

setup(
    name="vla_policy_node",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_policy_node"]),
        ("share/vla_policy_node", ["package.xml"]),
        # Links to the top-level folders, where people look for them.
        ("share/vla_policy_node/launch", sorted(glob("launch/*.launch.py"))),
        ("share/vla_policy_node/config", sorted(glob("config/*.yaml"))),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="The policy node: observations, model, ensembled chunks, commands through the gate.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "policy = vla_policy_node.node:main",
        ],
    },
)
