from setuptools import find_packages, setup

setup(
    name="vla_recorder",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_recorder"]),
        ("share/vla_recorder", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="The recorder node, the HDF5 episode file and episode tools.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "record = vla_recorder.record:main",
            "episode = vla_recorder.tools.cli:main",
        ],
    },
)
