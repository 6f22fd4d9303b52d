// Mouse, pen and fingers on the stage.

const PEN_SECONDS = 2;

export function bindPointer(app) {
  const stage = app.view.stage, touches = new Map();
  let panning = null, painting = false, pinch = null, penSeen = -Infinity;

  const place = (event) => {
    const bounds = stage.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };
  const ready = () => app.sheet !== null;

  function down(event) {
    if (!ready() || event.target.closest("button")) return;
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    const at = place(event);
    if (event.pointerType === "pen") penSeen = event.timeStamp;
    if (event.pointerType === "touch") {
      touches.set(event.pointerId, at);
      if (touches.size === 2) return startPinch();
      if (touches.size > 2) return;
    }
    // Once a pen is in use, a finger or the palm of the hand moves the photo and never paints.
    const palm = event.pointerType === "touch" && event.timeStamp - penSeen < PEN_SECONDS * 1000;
    if (app.spaceDown || app.tool.pans || event.button === 1 || palm || (event.pointerType === "touch" && penSeen > 0)) {
      panning = at;
      stage.style.cursor = "grabbing";
      return;
    }
    if (event.button === 2 && !app.tool.sized && app.tool.name !== "threshold") return;
    painting = true;
    app.tool.down?.(app, app.view.toPhoto(...at), event);
    app.view.redraw();
  }

  function move(event) {
    if (!ready()) return;
    const at = place(event);
    app.pointer = event.pointerType === "touch" ? null : at;
    if (touches.has(event.pointerId)) touches.set(event.pointerId, at);
    if (pinch) return movePinch();
    if (panning) {
      app.view.pan(at[0] - panning[0], at[1] - panning[1]);
      panning = at;
      return;
    }
    if (painting || app.tool.points) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) app.tool.move?.(app, app.view.toPhoto(...place(one)), one);
    }
    app.panel.pointed(app.view.toPhoto(...at));
    app.view.redraw();
  }

  function up(event) {
    touches.delete(event.pointerId);
    if (pinch && touches.size < 2) pinch = null;
    stage.style.cursor = "";
    if (painting) {
      painting = false;
      app.tool.up?.(app, app.view.toPhoto(...place(event)), event);
    }
    panning = null;
    app.view.redraw();
  }

  function startPinch() {
    if (painting && app.sheet.drawing) app.sheet.abandon();
    app.tool.cancel?.();
    painting = false;
    panning = null;
    const [a, b] = [...touches.values()];
    pinch = { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
  }

  function movePinch() {
    const [a, b] = [...touches.values()];
    const distance = Math.hypot(a[0] - b[0], a[1] - b[1]), middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    app.view.pan(middle[0] - pinch.middle[0], middle[1] - pinch.middle[1]);
    app.view.zoom(distance / pinch.distance, ...middle);
    pinch = { distance, middle };
  }

  function wheel(event) {
    if (!ready()) return;
    event.preventDefault();
    const by = event.deltaY || event.deltaX;
    if (event.altKey) app.panel.setSize(app.size * (by < 0 ? 1.25 : 0.8), by < 0 ? 1 : -1);
    else if (event.shiftKey) app.panel.setOpacity(by < 0 ? 5 : -5);
    else app.view.zoom(Math.exp(-Math.max(-120, Math.min(120, by)) * (event.ctrlKey ? 0.01 : 0.0022)), ...place(event));
  }

  stage.addEventListener("pointerdown", down);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => {
    app.pointer = null;
    app.view.redraw();
  });
  stage.addEventListener("dblclick", () => ready() && app.tool.double?.(app));
  stage.addEventListener("wheel", wheel, { passive: false });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
}
