"""Prints, as one JSON object, what the real TensorBoard reads from an event folder.

    python3 tests/tensorboard_read.py FOLDER

Everything but the hyperparameters goes through TensorBoard's data provider, the interface its pages use;
the HPARAMS page's own request handlers answer for the hyperparameters.
"""

import io
import json
import math
import sys

from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.data import provider
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

RUN = "run"


def plain(value):
    """JSON has no NaN or infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def open_provider(folder):
    # A size guidance of 0 keeps every point.
    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={}, size_guidance={})
    multiplexer.AddRun(folder, RUN)
    multiplexer.Reload()
    return data_provider.MultiplexerDataProvider(multiplexer, folder)


def points(read, listed, convert):
    return {
        tag: [[point.step, point.wall_time, convert(point)] for point in series]
        for tag, series in read.get(RUN, {}).items()
        if tag in listed.get(RUN, {})
    }


def tensors(data, ctx, plugin, convert):
    asked = dict(experiment_id="", plugin_name=plugin)
    listed = data.list_tensors(ctx, **asked)
    read = data.read_tensors(ctx, **asked, downsample=10_000)
    return points(read, listed, lambda point: convert(point.numpy))


def scalars(data, ctx):
    asked = dict(experiment_id="", plugin_name="scalars")
    listed = data.list_scalars(ctx, **asked)
    return points(data.read_scalars(ctx, **asked, downsample=10_000), listed, lambda point: plain(point.value))


def images(data, ctx):
    from PIL import Image

    found = {}
    asked = dict(experiment_id="", plugin_name="images")
    read = data.read_blob_sequences(ctx, **asked, downsample=10_000)
    for tag, series in read.get(RUN, {}).items():
        found[tag] = []
        for point in series:
            width, height, *blobs = [data.read_blob(ctx, blob_key=ref.blob_key) for ref in point.values]
            decoded = [Image.open(io.BytesIO(blob)).convert("RGB") for blob in blobs]
            pixels = [image.tobytes().hex() for image in decoded]
            found[tag].append([point.step, int(height), int(width), [list(image.size) for image in decoded], pixels])
    return found


def hparams(data, ctx):
    backend = backend_context.Context(_Base(data))
    experiment = get_experiment.Handler(ctx, backend, "", api_pb2.GetExperimentRequest()).run()
    columns = [
        api_pb2.ColParams(hparam=info.name, include_in_result=True) for info in experiment.hparam_infos
    ] + [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING],
        col_params=columns,
    )
    answer = list_session_groups.Handler(ctx, backend, "", request).run()
    return {
        "types": {info.name: api_pb2.DataType.Name(info.type) for info in experiment.hparam_infos},
        "metrics": [info.name.tag for info in experiment.metric_infos],
        "sessions": [
            {
                "status": api_pb2.Status.Name(session.status),
                "ended": session.end_time_secs >= session.start_time_secs > 0,
                "hparams": {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
                "metrics": {value.name.tag: plain(value.value) for value in session.metric_values},
            }
            for group in answer.session_groups
            for session in group.sessions
        ],
    }


class _Base:
    """The part of `base_plugin.TBContext` that the HPARAMS page looks at."""

    def __init__(self, data):
        self.data_provider = data
        self.multiplexer = None


def histogram_protos(folder):
    """What the older reader keeps of histograms: all fields of the message, doubles as exact text."""
    reader = EventAccumulator(folder, size_guidance={"histograms": 0})
    reader.Reload()
    return {
        tag: [
            {
                name: [repr(number) for number in value] if isinstance(value, (list, tuple)) else repr(value)
                for name, value in vars(event.histogram_value).items()
            }
            for event in reader.Histograms(tag)
        ]
        for tag in reader.Tags()["histograms"]
    }


def main(folder):
    data, ctx = open_provider(folder), context.RequestContext()
    found = {
        "scalars": scalars(data, ctx),
        "texts": tensors(data, ctx, "text", lambda array: array.item().decode("utf-8")),
        "histograms": tensors(data, ctx, "histograms", lambda array: array.tolist()),
        "histogram_protos": histogram_protos(folder),
        "pr_curves": tensors(data, ctx, "pr_curves", lambda array: array.tolist()),
        "images": images(data, ctx),
        "hparams": hparams(data, ctx),
    }
    print(json.dumps(found, allow_nan=False))


main(sys.argv[1])
