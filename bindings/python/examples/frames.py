"""Large samples in place: numpy writes frames into the publisher's ring and reads them there. Nothing is
copied.

Usage: python frames.py PATH

The camera is a process of its own, made by the method "spawn".
"""

import multiprocessing
import sys

import numpy as np
import ringpost

HEIGHT, WIDTH = 1080, 1920
SIZE = HEIGHT * WIDTH


def camera(path: str) -> None:
    with ringpost.Client("camera", path) as client:
        # A sample takes at most a quarter of the ring. It waits half a minute for a viewer that makes no room.
        with client.publish("frames", ring_size=1 << 24, reliable=30.0) as frames:
            for number in range(10):
                with frames.grant(SIZE) as grant:
                    frame = np.frombuffer(grant, np.uint8).reshape(HEIGHT, WIDTH)
                    frame[:] = number
                    del frame  # nothing may refer to the ring when the frame is published
                    grant.commit()


def main() -> None:
    path = sys.argv[1]
    with ringpost.Server(path), ringpost.Client("viewer", path) as viewer:
        frames = viewer.subscribe("frames", policy="reliable")
        process = multiprocessing.get_context("spawn").Process(target=camera, args=[path])
        process.start()
        means: list[float] = []
        while len(means) < 10:
            # Leaving the block raises Overrun if the camera has overwritten the frame. To a reliable
            # subscriber that cannot happen; to others it can, so they believe a result only behind it.
            with frames.view(timeout=30) as view:
                frame = np.frombuffer(view, np.uint8).reshape(HEIGHT, WIDTH)
                mean = float(frame.mean())
                del frame
            means.append(mean)
        print(means)
        process.join()


if __name__ == "__main__":
    main()
