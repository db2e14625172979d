"""Refuses answers that would not give a working project, before any file is written."""

import json
import keyword
import re
import sys
import unicodedata

# Rendered by cookiecutter. JSON never contains three quotes in a row, and a raw string keeps its
# backslashes, so no answer can end this literal early.
ANSWERS = r"""{{ cookiecutter | tojson }}"""

CHOICES = {
    "problem_type": ("classification", "regression"),
    "deployment_flavor": ("batch", "api", "both"),
    "ci_provider": ("github", "gitlab", "azure"),
    "license": ("MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"),
    "python_version": ("3.11", "3.12", "3.13"),
}
FREE_TEXT = ("project_name", "description", "author_name")
LONGEST_PACKAGE_NAME = 40  # lines of code that contain it stay within 100 columns

SLUG = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
WINDOWS_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")

# Import and distribution names in the generated project's environment: a package with such a
# name would hide the library, or depend on itself.
DEPENDENCIES = frozenset(
    """
    aiohappyeyeballs aiohttp aiosignal alembic annotated_doc annotated_types antlr4
    antlr4_python3_runtime anyio argon2 argon2_cffi argon2_cffi_bindings arrow asn1crypto asttokens
    async_lru attr attrs aws_xray_sdk babel beautifulsoup4 bleach blinker boto3 botocore brotli bs4
    cachetools certifi cffi cfgv cfn_lint cfnlint charset_normalizer click cloudpickle comm
    contourpy coverage cronsim cryptography cycler databricks databricks_sdk dateutil debugpy
    defusedxml distlib docker dotenv editables execnet executing fastapi fastapi_offline
    fastjsonschema filelock flask flask_cors flask_wtf flatbuffers fonttools fqdn frozenlist gevent
    geventhttpclient git gitdb gitpython google google_auth googleapis_common_protos granian
    graphene graphql graphql_core graphql_relay greenlet grimp grpc grpc_status grpcio grpcio_status
    gunicorn h11 harfile hatchling httpcore httpcore2 httptools httpx httpx2 huey hypothesis
    hypothesis_graphql identify idna import_linter importlib_metadata importlinter iniconfig
    ipykernel ipykernel_launcher ipython ipython_pygments_lexers isoduration isympy itsdangerous
    jedi jinja2 jmespath joblib joserfc json5 jsonpatch jsonpatch_cli jsonpath_ng jsonpointer
    jsonschema jsonschema_path jsonschema_rs jsonschema_specifications jupyter jupyter_builder
    jupyter_client jupyter_core jupyter_events jupyter_lsp jupyter_server jupyter_server_terminals
    jupyterlab jupyterlab_pygments jupyterlab_server jwt kiwisolver lark lazy_object_proxy mako
    markdown_it markdown_it_py markupsafe matplotlib matplotlib_inline mdurl mistune ml_dtypes
    mlflow mlflow_skinny mlflow_tracing moto mpl_toolkits mpmath msgspec multidict narwhals nbclient
    nbconvert nbformat nbmake nest_asyncio2 networkx nodeenv notebook_shim numpy obstore onnx
    onnxruntime openapi_schema_validator openapi_spec_validator opentelemetry opentelemetry_api
    opentelemetry_proto opentelemetry_sdk opentelemetry_semantic_conventions outcome overrides
    packaging pandas pandocfilters parso pathable pathspec pexpect pg8000 pil pillow pip
    pkg_resources platformdirs pluggy pre_commit prettytable prometheus_client prompt_toolkit
    propcache protobuf psutil ptyprocess pure_eval py py4j py_partiql_parser pyarrow pyasn1
    pyasn1_modules pycparser pydantic pydantic_core pydantic_settings pygments pyjwt pylab pyparsing
    pyrate_limiter pysocks pyspark pytest pytest_cov pytest_xdist python_dateutil python_discovery
    python_dotenv python_json_logger python_rapidjson pythonjsonlogger pytz pyyaml pyzmq rapidjson
    referencing regex requests responses rfc3339_validator rfc3986_validator rfc3987_syntax rich
    rpds rpds_py ruff s3transfer schemathesis scikit_learn scipy scramp selenium send2trash
    setuptools six skl2onnx sklearn skops smmap sniffio socks sockshandler sortedcontainers
    soupsieve sqlalchemy sqlparse stack_data starlette sympy tenacity terminado threadpoolctl
    tinycss2 tomlkit tornado tqdm traitlets trio trio_websocket tritonclient tritonclientutils
    tritongrpcclient tritonhttpclient tritonshmutils trove_classifiers truststore typing_extensions
    typing_inspection tzdata uri_template urllib3 uv uvicorn uvloop virtualenv wcwidth webcolors
    webencodings websocket websocket_client werkzeug wheel wrapt wsproto wtforms xdist xmltodict
    yaml yarl zipp zmq zope zope_event zope_interface zstandard
    """.split()
)
OWN_FOLDERS = frozenset(
    """
    annotate candidate champion change chosen compare compatibility conftest container deploy
    forge gate http_json inventory jobs machine origin program protect publish release released
    renew retrain roll_back rollout sbom slo smoke_api smoke_batch src tests verify_api
    verify_batch
    """.split()
)


def problems(answers):
    """One sentence for each reason to refuse these answers."""
    return [
        *slug_problems(answers["project_slug"]),
        *email_problems(answers["author_email"]),
        *(problem for key in FREE_TEXT for problem in text_problems(key, answers[key])),
        *(problem for key in CHOICES for problem in choice_problems(key, answers[key])),
    ]


def slug_problems(slug):
    package = slug.replace("-", "_")
    if not SLUG.fullmatch(slug):
        yield (
            f"project_slug {slug!r} must start with a letter and hold only lower-case letters, "
            "digits and single hyphens or underscores, because the package is named after it."
        )
    elif reason := taken(package):
        yield f"project_slug {slug!r} gives the package name {package!r}, which is {reason}."
    if len(package) > LONGEST_PACKAGE_NAME:
        yield f"project_slug {slug!r} must have at most {LONGEST_PACKAGE_NAME} characters."


def taken(package):
    """What already has this name, or an empty string."""
    if keyword.iskeyword(package):
        return "a Python keyword"
    if package in sys.stdlib_module_names:
        return "a module of Python's standard library"
    if package in DEPENDENCIES:
        return "a library that the project depends on"
    if package in OWN_FOLDERS:
        return "a module or folder of the project itself"
    if WINDOWS_DEVICE.fullmatch(package):
        return "a device name on Windows"
    return ""


def email_problems(email):
    if not EMAIL.fullmatch(email):
        yield f"author_email {email!r} must be an e-mail address such as name@example.com."


def text_problems(key, text):
    if not text.strip():
        yield f"{key} must not be empty."
    # Line ends and tabs are allowed; they become spaces where one line is needed.
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r" for char in text):
        yield f"{key} must not hold control characters."


def choice_problems(key, answer):
    # cookiecutter itself refuses a wrong choice, except one read from a replay file.
    if answer not in CHOICES[key]:
        yield f"{key} {answer!r} must be one of {', '.join(CHOICES[key])}."


def main():
    found = problems(json.loads(ANSWERS))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
