/** Draws charts one after the other, so that a page of many stays quick to the touch. */

const BUDGET_MS = 30;

class DrawingQueue {
  private readonly waiting = new Map<object, () => void>();
  private isRunning = false;

  /** Draw soon; of several wishes of one owner the newest counts. */
  later(owner: object, draw: () => void): void {
    this.waiting.set(owner, draw);
    if (this.isRunning) return;
    this.isRunning = true;
    setTimeout(() => this.run());
  }

  forget(owner: object): void {
    this.waiting.delete(owner);
  }

  private run(): void {
    const end = performance.now() + BUDGET_MS;
    for (const [owner, draw] of this.waiting) {
      this.waiting.delete(owner);
      draw();
      if (performance.now() > end) break;
    }
    this.isRunning = this.waiting.size > 0;
    if (this.isRunning) setTimeout(() => this.run());
  }
}

export const drawing = new DrawingQueue();
