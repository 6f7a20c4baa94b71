from setuptools import find_packages, setup

setup(
    name="vla_training",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_training"]),
        ("share/vla_training", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="Fine-tuning on recorded episodes, without ROS.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "evaluate = vla_training.evaluate:main",
            "finetune = vla_training.finetune:main",
        ],
    },
)
