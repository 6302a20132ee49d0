// Signals on spheres that turn: one camera for all of them, one slider, one play button.
// Only coefficients arrive here; degree 1 is (x, y, z), the polar axis is y, as everywhere.

const ROWS = 72, COLUMNS = 144, ARROWS = 130, SECONDS = 6;

/** Orthonormal real harmonics of degrees 0..lmax at a unit vector, in the order m = -l..l. */
export function harmonics(lmax, [x, y, z]) {
  const sin = Math.hypot(x, z), azimuth = Math.atan2(x, z);
  const out = new Float64Array((lmax + 1) ** 2);
  let corner = Math.sqrt(1 / (4 * Math.PI));  // P(m, m), normalised
  for (let m = 0; m <= lmax; m++) {
    if (m > 0) corner *= sin * Math.sqrt((2 * m + 1) / (2 * m));
    let before = 0, now = corner;
    const even = m ? Math.SQRT2 * Math.cos(m * azimuth) : 1, odd = Math.SQRT2 * Math.sin(m * azimuth);
    for (let l = m; l <= lmax; l++) {
      out[l * l + l + m] = now * even;
      if (m > 0) out[l * l + l - m] = now * odd;
      const n = l + 1, scale = Math.sqrt(((2 * n + 1) * (2 * n - 1)) / (n * n - m * m));
      const back = l > m ? Math.sqrt((l * l - m * m) / ((2 * l + 1) * (2 * l - 1))) : 0;
      [before, now] = [now, scale * (y * now - back * before)];
    }
  }
  return out;
}

/** Points spread evenly over the sphere. */
function spread(count) {
  return Array.from({ length: count }, (_, n) => {
    const y = 1 - (2 * n + 1) / count, r = Math.sqrt(1 - y * y), a = n * Math.PI * (3 - Math.sqrt(5));
    return [r * Math.sin(a), y, r * Math.cos(a)];
  });
}

const dot = (a, b) => { let s = 0; for (let i = 0; i < a.length; i++) s += a[i] * b[i]; return s; };
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const r = Math.hypot(...a); return a.map((v) => v / r); };
const along = (a, b, step) => unit(a.map((v, i) => v + step * b[i]));

/** Two directions along the sphere at a point. */
function tangents(point) {
  const first = unit(cross(point, Math.abs(point[1]) < 0.9 ? [0, 1, 0] : [1, 0, 0]));
  return [first, cross(point, first)];
}

export function written(value) {
  if (value === 0) return "0";
  let power = Math.floor(Math.log10(Math.abs(value)));
  if (power >= -2 && power < 3) return String(Number(value.toPrecision(2)));
  const raised = String(power).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]);
  return `${(value / 10 ** power).toFixed(1)} × 10${raised}`;
}

function palette(stops) {
  const parts = stops.map((s) => [1, 3, 5].map((i) => parseInt(s.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, n) => {
    const at = (n / 255) * (parts.length - 1), k = Math.min(Math.floor(at), parts.length - 2);
    return parts[k].map((v, i) => v + (at - k) * (parts[k + 1][i] - v));
  });
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".etp-spheres");
  const state = (root.etp ??= { yaw: 0.55, pitch: 0.4, step: data.start, arrows: data.arrows });
  if (state.shown !== data.name) Object.assign(state, { shown: data.name, arrows: data.arrows });
  cancelAnimationFrame(state.frame);
  state.playing = false;
  const lmax = Math.sqrt(data.rows[0].last[0].length) - 1;
  const lut = palette(data.colours), steps = data.angles.length;
  const table = [];
  for (let r = 0; r < ROWS; r++) for (let c = 0; c < COLUMNS; c++) {
    const beta = ((r + 0.5) * Math.PI) / ROWS, alpha = (c * 2 * Math.PI) / COLUMNS;
    table.push(harmonics(lmax, [Math.sin(beta) * Math.sin(alpha), Math.cos(beta), Math.sin(beta) * Math.cos(alpha)]));
  }
  const probes = spread(400).map((p) => harmonics(lmax, p));
  const stems = spread(ARROWS).map((point) => {
    const ways = tangents(point), h = 1e-3;
    const slopes = ways.map((t) => {
      const [up, down] = [along(point, t, h), along(point, t, -h)].map((p) => harmonics(lmax, p));
      return up.map((v, i) => (v - down[i]) / (2 * h));
    });
    return { point, ways, slopes };
  });
  const largest = (signal) => Math.max(1e-300, ...signal.flatMap((c) => probes.map((p) => Math.abs(dot(c, p)))));
  const steepest = (signal) => Math.max(1e-300, ...signal.flatMap((c) =>
    stems.map(({ slopes }) => Math.hypot(...slopes.map((s) => dot(c, s))))));

  root.textContent = "";
  root.style.setProperty("--mute", data.mute);
  const spheres = [];
  for (const row of data.rows) {
    const head = root.appendChild(document.createElement("div"));
    head.className = "head";
    head.append(Object.assign(document.createElement("b"), { textContent: row.name }), ` ${row.words}`);
    const line = root.appendChild(document.createElement("div"));
    line.className = "line";
    const shared = row.first_order, scale = largest(shared), slope = steepest(shared);
    const panels = [
      ["R x", "first input, rotated", row.input, largest(row.input), steepest(row.input)],
      ["T(R x, R y)", "rotate, then multiply", row.last, scale, slope],
      ["R T(x, y)", "multiply, then rotate", shared, scale, slope],
      row.right
        ? ["difference", "on a scale of its own", row.difference, largest(row.difference), steepest(row.difference)]
        : ["difference", "on the signal's scale", row.difference, scale, slope],
    ];
    for (const [title, caption, signal, limit, most] of panels) {
      const cell = line.appendChild(document.createElement("figure"));
      cell.append(Object.assign(document.createElement("b"), { textContent: title }),
        Object.assign(document.createElement("small"), { textContent: caption }));
      const canvas = cell.appendChild(document.createElement("canvas"));
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${row.name}: ${title}, ${caption}`);
      const bar = cell.appendChild(document.createElement("div"));
      bar.className = "scale";
      bar.append(`−${written(limit)}`, document.createElement("i"), written(limit));
      bar.querySelector("i").style.background = `linear-gradient(90deg, ${data.colours.join(",")})`;
      spheres.push({ canvas, signal, limit, most });
    }
  }
  const controls = root.appendChild(document.createElement("div"));
  controls.className = "controls";
  const play = controls.appendChild(document.createElement("button"));
  const slider = controls.appendChild(Object.assign(document.createElement("input"), {
    type: "range", min: 0, max: steps - 1, step: "any", value: state.step }));
  slider.setAttribute("aria-label", "rotation about the axis drawn, in steps");
  const angle = controls.appendChild(document.createElement("output"));
  const label = controls.appendChild(document.createElement("label"));
  const box = label.appendChild(Object.assign(document.createElement("input"), {
    type: "checkbox", checked: state.arrows }));
  label.append(" as a vector field (gradient)");

  let places = null, size = 0, camera;
  function look() {
    const [a, b] = [state.yaw, state.pitch];
    // Columns of the world in the eyes' frame: right, up, towards the eye.
    camera = [
      [Math.cos(a), 0, -Math.sin(a)],
      [-Math.sin(b) * Math.sin(a), Math.cos(b), -Math.sin(b) * Math.cos(a)],
      [Math.cos(b) * Math.sin(a), Math.sin(b), Math.cos(b) * Math.cos(a)],
    ];
    const wanted = Math.round(Math.min(spheres[0].canvas.clientWidth || 200, 260) * Math.min(devicePixelRatio, 2));
    size = wanted;
    places = new Int32Array(size * size).fill(-1);
    const radius = 0.42 * size;
    for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
      const u = (i + 0.5 - size / 2) / radius, v = (size / 2 - j - 0.5) / radius, rest = 1 - u * u - v * v;
      if (rest < 0) continue;
      const w = Math.sqrt(rest);
      const x = u * camera[0][0] + v * camera[1][0] + w * camera[2][0];
      const y = u * camera[0][1] + v * camera[1][1] + w * camera[2][1];
      const z = u * camera[0][2] + v * camera[1][2] + w * camera[2][2];
      const r = Math.min(ROWS - 1, Math.floor((Math.acos(Math.max(-1, Math.min(1, y))) * ROWS) / Math.PI));
      const c = Math.round((Math.atan2(x, z) * COLUMNS) / (2 * Math.PI) + COLUMNS) % COLUMNS;
      places[j * size + i] = r * COLUMNS + c;
    }
  }
  const seen = (p) => camera.map((axis) => dot(axis, p));
  const values = new Float64Array(ROWS * COLUMNS);
  function draw() {
    const k = Math.min(Math.floor(state.step), steps - 2), part = state.step - k;
    for (const { canvas, signal, limit, most } of spheres) {
      if (canvas.width !== size) canvas.width = canvas.height = size;
      const now = signal[k].map((v, i) => v + part * (signal[k + 1][i] - v));
      for (let n = 0; n < values.length; n++) values[n] = dot(now, table[n]);
      const context = canvas.getContext("2d"), image = context.createImageData(size, size);
      const radius = 0.42 * size;
      for (let n = 0; n < places.length; n++) {
        if (places[n] < 0) continue;
        const level = Math.round(127.5 * (1 + Math.max(-1, Math.min(1, values[places[n]] / limit))));
        const u = ((n % size) - size / 2) / radius, v = (Math.floor(n / size) - size / 2) / radius;
        const shade = 0.82 + 0.18 * Math.sqrt(Math.max(0, 1 - u * u - v * v));
        for (let i = 0; i < 3; i++) image.data[4 * n + i] = lut[level][i] * shade;
        image.data[4 * n + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      pin(context, radius);
      if (state.arrows) arrows(context, now, most, radius);
    }
    angle.textContent = `rotated by ${Math.round((state.step * 360) / (steps - 1))}° about the axis drawn`;
    slider.value = state.step;
    play.textContent = state.playing ? "❚❚ Pause" : "▶ Play";
    root.dataset.step = state.step.toFixed(2);
    root.dataset.camera = `${state.yaw.toFixed(3)} ${state.pitch.toFixed(3)}`;
  }
  const spot = (p, radius) => [size / 2 + radius * p[0], size / 2 - radius * p[1]];
  function pin(context, radius) {
    const end = seen(data.axis), away = Math.hypot(end[0], end[1]);
    // Behind the sphere only what stands out beyond its edge is seen.
    const from = end[2] > 0 ? 1 : Math.min(1.18, 1 / Math.max(away, 1e-6));
    context.strokeStyle = data.ink;
    context.lineWidth = size / 70;
    context.beginPath();
    context.moveTo(...spot(end.map((v) => v * from), radius));
    context.lineTo(...spot(end.map((v) => v * 1.18), radius));
    context.stroke();
  }
  function arrows(context, now, most, radius) {
    context.strokeStyle = data.ink;
    context.lineWidth = size / 160;
    for (const { point, ways, slopes } of stems) {
      const start = seen(point);
      if (start[2] < 0.1) continue;
      const [a, b] = slopes.map((s) => (0.3 * dot(now, s)) / most);
      const way = seen([0, 1, 2].map((i) => a * ways[0][i] + b * ways[1][i]));
      const length = Math.hypot(way[0], way[1]);
      if (length < 0.015) continue;
      const [x0, y0] = spot(start, radius), [x1, y1] = spot(start.map((v, i) => v + way[i]), radius);
      const turn = Math.atan2(y1 - y0, x1 - x0), tip = Math.min(0.4 * length * radius, size / 40);
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      for (const side of [2.6, -2.6]) {
        context.moveTo(x1, y1);
        context.lineTo(x1 + tip * Math.cos(turn + side), y1 + tip * Math.sin(turn + side));
      }
      context.stroke();
    }
  }
  function turned(dx, dy) {
    state.yaw -= dx;
    state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + dy));
    look();
    draw();
  }
  for (const { canvas } of spheres) {
    canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); state.drag = [event.clientX, event.clientY]; };
    canvas.onpointermove = (event) => {
      if (!state.drag) return;
      const [x, y] = state.drag;
      state.drag = [event.clientX, event.clientY];
      turned((event.clientX - x) / 90, (event.clientY - y) / 90);
    };
    canvas.onpointerup = canvas.onpointercancel = () => { state.drag = null; };
    canvas.onkeydown = (event) => {
      const way = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (way) { event.preventDefault(); turned(...way); }
    };
  }
  function run(time) {
    if (!state.playing || !root.isConnected) return;
    state.step = (state.step + ((time - state.last) / 1000 / SECONDS) * (steps - 1)) % (steps - 1);
    state.last = time;
    draw();
    state.frame = requestAnimationFrame(run);
  }
  play.onclick = () => {
    state.playing = !state.playing;
    state.last = performance.now();
    draw();
    if (state.playing) state.frame = requestAnimationFrame(run);
  };
  slider.oninput = () => { state.playing = false; state.step = Number(slider.value); draw(); };
  box.onchange = () => { state.arrows = box.checked; draw(); };
  const observer = new ResizeObserver(() => { look(); draw(); });
  observer.observe(root);
  look();
  draw();
  return () => { state.playing = false; observer.disconnect(); };
}
