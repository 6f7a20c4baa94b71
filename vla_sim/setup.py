from setuptools import find_packages, setup

setup(
    name="vla_sim",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_sim"]),
        ("share/vla_sim", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="The simulated ALOHA rig behind the real rig's topics, and its scripted demonstrator.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "sim_rig = vla_sim.executables:sim_rig",
            "demonstrator = vla_sim.executables:demonstrator",
        ],
    },
)
