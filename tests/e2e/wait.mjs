// Waiting for what another process does: until it is true, or too late.

/** Asks `question` until the answer is truthy and returns that; what it throws ends the wait. */
export async function eventually(what, question, seconds = 90) {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (performance.now() > deadline) throw new Error(`waited ${seconds} s in vain for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
