"""What a device does with a model, with numpy and cffi alone: answers, learns, answers again. Writes all of it down.

Arguments: the image, samples and labels (.npz with x, y), where to write (.npz).
"""

import sys
import sysconfig

import numpy as np

import edgeprop


def main(image: str, samples: str, out: str) -> None:
    """Run everything once."""
    model = edgeprop.Model(image)
    data = np.load(samples)
    kept = {f"before {name}": value for name, value in model.trace(data["x"]).items()}
    if model.loss is not None:
        kept |= {f"gradient {name}": value for name, value in model.gradients(data["x"], data["y"]).items()}
        for _ in range(5):
            model.partial_fit(data["x"], data["y"], lr=0.05)
        kept |= {f"learned {name}": value for name, value in model.parameters().items()}
        kept |= {"loss": np.float64(model.loss_)}
        kept |= {"probabilities": model.predict_proba(data["x"])}
    np.savez(out, **kept)
    print(sysconfig.get_platform(), edgeprop.__version__, edgeprop.__file__)


main(*sys.argv[1:])
