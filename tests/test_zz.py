import time
def test_x(world, tmp_path):
    print(world.logits.round(2)[:8], world.correct_top1())
    from mobilenext.evaluation.evaluate import evaluate
    for kw in ({"workers":1},{"workers":2},{"runtime":"paddle"}):
        t=time.time()
        r=evaluate(world.data, weights=world.weights, output=tmp_path/str(kw["workers"] if "workers" in kw else "p"), preprocessing={"image_size":32,"crop_pct":1.0}, **kw)
        print(kw, time.time()-t, r["correct_top1"], r["engine"], r["notes"])
    print(r)
    print((tmp_path/"1"/"predictions.jsonl").read_text()[:600])
