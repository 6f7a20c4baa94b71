from setuptools import find_packages, setup

setup(
    name="vla_rig",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_rig"]),
        ("share/vla_rig", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="What is connected: rig file, cameras, joints, time alignment, command gate, teleop.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "teleop = vla_rig.teleop:main",
            "check = vla_rig.check:main",
        ],
    },
)
