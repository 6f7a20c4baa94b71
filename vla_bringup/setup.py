from setuptools import find_packages, setup

setup(
    name="vla_bringup",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_bringup"]),
        ("share/vla_bringup", ["package.xml"]),
        (
            "share/vla_bringup/dds",
            [f"dds/{name}.xml" for name in ("shared_memory", "shared_memory_1080p", "large_data")],
        ),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="Which processes make up a rig, as data; the vla command.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "vla = vla_bringup.cli:main",
        ],
    },
)
