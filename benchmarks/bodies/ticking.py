import time

import sweep

trial = sweep.current_trial()
for step in range(200):
    time.sleep(0.01)
    trial.report(step, score=-1.0 if step >= 5 else 1.0, sent=time.time())
