"""check: refuse a request before anything runs, by what can be told without its catalogue."""

from chipmill.model.ingest_request import IngestRequest
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor


def check_request(request: IngestRequest) -> Sensor:
    """Refuse what no catalogue has to be asked for; gives the sensor.

    Raises:
        RequestError: The sensor, a band or a class of cloud is unknown.
    """
    kind = sensor(request.sensor)
    if kind.bands:
        kind.wanted(request.bands)
    if kind.quality:
        kind.quality.counting(request.cloud_classes)
    return kind
