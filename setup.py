"""Build script of liif-plugin. One thing is unusual: liif_plugin.pth and .start go beside the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py as stock_build_py

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "liif_plugin" / "__init__.py").read_text(encoding="utf-8"), re.M
)[1]
EXPORT = ["onnx", "onnxruntime", "onnxscript"]
TEST = ["pytest>=7", "hypothesis>=6.100", "setuptools>=68", "wheel", "psutil"]
# mypy's own floor is Python 3.10
TYPES = [
    f"{name}; python_version >= '3.10'"
    for name in ("mypy==2.4.1", "types-PyYAML", "types-tqdm", "types-tabulate")
]
VIEW = ["starlette>=0.37", "uvicorn>=0.23"]  # the server of `liif view`


class build_py(stock_build_py):  # noqa: N801  the name of the command
    """Put the files of the hook at the top of site-packages, in wheels and in editable installs."""

    HOOK_FILES = ("liif_plugin.pth", "liif_plugin.start")

    def run(self):
        super().run()
        # an editable install packs what stands in the install directory and leaves build_lib out
        target = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.mkpath(target)
        for name in self.HOOK_FILES:
            self.copy_file(str(HERE / name), str(Path(target) / name))

    def get_outputs(self, include_bytecode=True):
        hooks = [] if self.editable_mode else [str(Path(self.build_lib) / name) for name in self.HOOK_FILES]
        return super().get_outputs(include_bytecode) + hooks


setup(
    name="liif-plugin",
    version=VERSION,
    description="Arbitrary-scale image super-resolution (LIIF, CVPR 2021) as an extension of BasicSR",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["super-resolution", "LIIF", "arbitrary scale", "implicit neural representation", "BasicSR"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)],
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
    python_requires=">=3.9",
    packages=[*find_packages(include=["liif_plugin", "liif_plugin.*"]), "liif_plugin.options"],
    package_dir={"liif_plugin": "liif_plugin", "liif_plugin.options": "options"},
    package_data={
        "liif_plugin": ["py.typed"],
        "liif_plugin.options": ["*.yml", "*/*.yml"],
        "liif_plugin.checkpoints": ["bundled/*", "licences/*"],
        "liif_plugin.view": ["page/*"],
        "liif_plugin.export": ["templates/*"],
    },
    cmdclass={"build_py": build_py},
    install_requires=[  # the floors are those of tests/oldest.txt, which `python scripts/old_and_new.py` runs
        'basicsr>=1.4.2; python_version < "3.13"',  # its source does not build on 3.13, see README
        # what BasicSR asks for beyond this list; there it is installed with --no-deps
        *[
            f'{name}; python_version >= "3.13"'
            for name in ("addict", "future", "requests", "tb-nightly", "yapf")
        ],
        "torch>=2.4",
        "torchvision>=0.19",
        "lmdb>=1.4",
        "mmengine>=0.10",
        "numpy>=1.22",
        "opencv-python>=4.5.5.64",
        "packaging>=21",
        "pooch>=1.6.0",
        "Pillow>=10.1",
        "PyYAML>=5.4.1",
        "scipy>=1.8",
        "scikit-image>=0.19",
        "tabulate>=0.9",
        "tifffile>=2021.11.2",
        "tqdm>=4.70",  # older ones print "Exception ignored in __del__" if Ctrl-C meets a bar that begins
    ],
    extras_require={
        "export": EXPORT,
        "view": VIEW,
        "docs": ["mkdocs~=1.6", "mkdocs-material~=9.5"],
        "test": [*TEST, *EXPORT, *VIEW],
        "dev": [*TEST, *EXPORT, *VIEW, "ruff==0.17.6", *TYPES, "build", "twine"],
    },
    entry_points={"console_scripts": ["liif = liif_plugin.cli:main"]},
)
