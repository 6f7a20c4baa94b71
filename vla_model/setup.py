from setuptools import find_packages, setup

setup(
    name="vla_model",
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_model"]),
        ("share/vla_model", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="VLA ROS 2 maintainers",
    maintainer_email="maintainers@vla-ros2.invalid",
    description="Vision-language-action models without ROS: backbones, heads, normalisation, checkpoints.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "convert = vla_model.released.convert:main",
        ],
    },
)
