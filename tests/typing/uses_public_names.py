# pyright: strict
"""A user's script. It runs, and a type checker knows the type of each expression in it."""

import sys
from pathlib import Path
from typing import Any

import xpnet


class StopWhenNoBetter(xpnet.Callback):
    def on_evaluation(self, trainer: xpnet.Trainer, record: dict[str, Any], improved: bool) -> None:
        if not improved and trainer.step > 100:
            trainer.stop()


folder, backend, digits = Path(sys.argv[1]), xpnet.backend("cpu-reference"), xpnet.data.load("digits")
images = xpnet.Sequential(xpnet.Reshape((1, 8, 8)), xpnet.Conv2d(1, 4, 3, padding="same"), xpnet.BatchNorm(4))
head = xpnet.Sequential(xpnet.ReLU(), xpnet.MaxPool2d(2), xpnet.Flatten(), xpnet.Dropout(0.1), xpnet.LayerNorm(64))
hidden = xpnet.Linear(64, 64, "tanh", weights=xpnet.GlorotUniform(), biases=xpnet.Constant(0.0))
output = xpnet.Linear(64, 10, weights=xpnet.HeNormal())
model = xpnet.Sequential(images, head, xpnet.Residual(hidden, xpnet.GELU()), output).initialize(backend, seed=1)
print(model.summary((64,)), model.output_shape((64,)), sum(map(len, model.parameters)))

optimizer = xpnet.AdamW(xpnet.Warmup(xpnet.CosineDecay(1e-2), steps=10), weight_decay=0.1, frozen="*.b", clip_norm=1.0)
patience, log = xpnet.EarlyStopping(patience=3, min_delta=1e-3), xpnet.CSVLog(folder / "log.csv")
callbacks: list[xpnet.Callback] = [StopWhenNoBetter(), patience, log]
loss = xpnet.SoftmaxCrossEntropy()
trainer = xpnet.Trainer(model, loss, optimizer, callbacks=callbacks, micro_batch_size=50)
history = trainer.fit(digits.train, validation=digits.test, epochs=1, sampler=xpnet.data.InOrder())
result = xpnet.evaluate(model, xpnet.Samples(digits.test.x, digits.test.y), loss)
print(len(history), result.loss, f"{result.accuracy:.2%}", trainer.training_seconds, optimizer.rate(step=3))

xpnet.save_model(model, folder / "model.safetensors")
loaded = xpnet.load_model(folder / "model.safetensors", backend)
probabilities, labels = loaded.predict(digits.x_test[:5] / 16), loaded.predict_labels(digits.x_test[:5])
print(probabilities.shape, probabilities.dtype.name, labels.size)
outputs = loaded(backend.asarray(digits.x_test, "float32"))
print(outputs.shape, float(xpnet.accuracy(backend, outputs, backend.asarray(digits.y_test))))

recipe = xpnet.load_recipe("digits").with_options(epochs=1)
run = xpnet.train(recipe, digits, backend, out=folder / "run", callbacks=[xpnet.Progress()])
print(recipe.name, sorted(run), xpnet.recipe_names(), xpnet.cuda_problem(), xpnet.__version__)
checks = xpnet.check_gradients(xpnet.Linear(3, 2).initialize(backend, dtype="float64"), probabilities[:, :3])
print([f"{check.name} {check.error:.1e}" for check in checks])
try:
    print(xpnet.export_pytorch(model, folder / "model.safetensors"))
except xpnet.ConfigurationError as error:
    print(error)
