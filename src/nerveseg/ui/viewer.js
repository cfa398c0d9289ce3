// The image with its labels. Given by the page: element, trigger, props, watch, upload. Labels are set as text, never as markup.
const find = (name) => element.querySelector('.nv-' + name);
const stage = find('stage'), frame = find('frame'), canvas = find('canvas'), pen = canvas.getContext('2d');
const tip = find('tip'), legend = find('legend'), hint = find('hint'), file = find('file');
const LOOKED_AT = 960; // pixels of the longer side that a small image is drawn with
const STEPS = 48; // key presses from one side of the image to the other

const now = {
  image: null, bitmap: null, scale: 1, ids: null, sure: null, labels: [], clicks: [],
  hidden: new Set(), over: null, picked: null, fresh: [], at: null, wait: null, under: null, drawn: {}, serial: 0, undone: 0,
};
const nothing = () => ({ ids: null, sure: null, labels: [], clicks: [], hidden: new Set(), over: null, picked: null, fresh: [], at: null, under: null });

function say(text) { hint.textContent = text; }

async function unpacked(text, count) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const plain = await new Response(stream).arrayBuffer();
  return [new Uint16Array(plain, 0, count), new Uint8Array(plain, 2 * count, count)];
}

function loaded(url) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error('This browser cannot show the image.'));
    image.src = url;
  });
}

// Drawing ---------------------------------------------------------------------------------------------------------------------------

// As nerveseg.masks.paint has it: under a label only light and dark are left of the image, so that a label has one hue, the legend's.
const DEPTH = 0.5; // how far light and dark move a colour, at strength 0
const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function shades(strength) {
  const table = new Uint8ClampedArray(now.labels.length * 768), fades = new Float32Array(now.labels.length).fill(-1);
  now.labels.forEach((label, id) => {
    if (now.hidden.has(id)) return;
    const alone = now.over !== null && now.over !== id, own = alone ? strength * 0.18 : now.over === id ? Math.max(strength, 0.7) : strength;
    fades[id] = Math.min(1, 2 * own);
    rgb(label.colour).forEach((part, at) => {
      for (let grey = 0; grey < 256; grey++) {
        const light = ((grey - 128) / 128) * DEPTH * (1 - own);
        table[id * 768 + grey * 3 + at] = light < 0 ? part * (1 + light) : part + (255 - part) * light;
      }
    });
  });
  return [table, fades];
}

function canvasOf(width, height) {
  const sheet = document.createElement('canvas');
  sheet.width = width; sheet.height = height;
  return sheet;
}

function kept(name, key, make) { // what is drawn changes more seldom than it is drawn
  if (!now.drawn[name] || now.drawn[name].key !== key) now.drawn[name] = { key, value: make() };
  return now.drawn[name].value;
}

function image() {
  return kept('image', now.image.key + canvas.width + 'x' + canvas.height, () => {
    const sheet = canvasOf(canvas.width, canvas.height), pen = sheet.getContext('2d', { willReadFrequently: true });
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(now.bitmap, 0, 0, sheet.width, sheet.height);
    return [sheet, pen.getImageData(0, 0, sheet.width, sheet.height).data];
  });
}

function fills() {
  const strength = find('strength').value / 100, key = [now.serial, strength, now.over, ...now.hidden].join();
  return kept('fills', key, () => {
    const [table, fades] = shades(strength), [, under] = image(), { ids, scale } = now, wide = now.image.shown[1];
    const sheet = canvasOf(canvas.width, canvas.height), data = new ImageData(sheet.width, sheet.height), out = data.data;
    for (let y = 0, at = 0; y < sheet.height; y++) {
      const row = Math.floor(y / scale) * wide;
      for (let x = 0; x < sheet.width; x++, at += 4) {
        const id = ids[row + Math.floor(x / scale)], fade = fades[id];
        if (!(fade >= 0)) continue;
        const [red, green, blue] = [under[at], under[at + 1], under[at + 2]];
        const from = id * 768 + 3 * ((red * 299 + green * 587 + blue * 114 + 500) / 1000 | 0);
        out[at] = red + (table[from] - red) * fade;
        out[at + 1] = green + (table[from + 1] - green) * fade;
        out[at + 2] = blue + (table[from + 2] - blue) * fade;
        out[at + 3] = 255;
      }
    }
    sheet.getContext('2d').putImageData(data, 0, 0);
    return sheet;
  });
}

function borders(half) {
  return kept('borders' + half, [now.serial, ...now.hidden].join(), () => {
    const [height, width] = now.image.shown, { ids, scale } = now, path = new Path2D();
    const shown = (id) => (now.hidden.has(id) ? 65535 : id);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const id = shown(ids[y * width + x]);
        if (x + 1 < width && shown(ids[y * width + x + 1]) !== id) path.rect((x + 1) * scale - half, y * scale - half, 2 * half, scale + 2 * half);
        if (y + 1 < height && shown(ids[(y + 1) * width + x]) !== id) path.rect(x * scale - half, (y + 1) * scale - half, scale + 2 * half, 2 * half);
      }
    }
    return path;
  });
}

function draw() {
  if (!now.bitmap) return;
  pen.drawImage(image()[0], 0, 0);
  const thick = canvas.width / Math.max(canvas.clientWidth, 1);
  const cut = Math.round((find('wipe').value / 100) * canvas.width);
  if (now.ids) {
    pen.save();
    pen.beginPath();
    pen.rect(cut, 0, canvas.width - cut, canvas.height);
    pen.clip();
    pen.drawImage(fills(), 0, 0);
    if (find('strength').value > 0) {
      for (const [wide, colour] of [[1.4, 'rgba(15, 20, 24, 0.8)'], [0.7, '#ffffff']]) { // light, edged dark: seen on every colour
        pen.fillStyle = colour;
        pen.fill(borders(Math.round(4 * wide * thick) / 4));
      }
    }
    pen.restore();
  }
  if (now.ids && cut > 0 && cut < canvas.width) {
    pen.fillStyle = 'rgba(0, 0, 0, 0.35)';
    pen.fillRect(cut - 2.5 * thick, 0, 5 * thick, canvas.height);
    pen.fillStyle = '#ffffff';
    pen.fillRect(cut - 1.5 * thick, 0, 3 * thick, canvas.height);
  }
  for (const each of now.clicks) mark(each, thick, now.labels[each.id] ? now.labels[each.id].colour : '#888888', 6);
  if (now.wait) mark(now.wait, thick, '#ffffff', 9);
  if (now.at && document.activeElement === canvas) cross(thick);
}

function mark(place, thick, colour, size) {
  const [x, y] = [(place.x / now.image.size[1]) * canvas.width, (place.y / now.image.size[0]) * canvas.height];
  for (const [radius, fill] of [[size + 2.5, 'rgba(0, 0, 0, 0.55)'], [size + 1, '#ffffff'], [size - 1.5, colour]]) {
    pen.beginPath();
    pen.arc(x, y, radius * thick, 0, 2 * Math.PI);
    pen.fillStyle = fill;
    pen.fill();
  }
}

function cross(thick) {
  const x = now.at[0] * now.scale, y = now.at[1] * now.scale, long = 14 * thick, gap = 4 * thick;
  for (const [width, colour] of [[4 * thick, 'rgba(0, 0, 0, 0.6)'], [2 * thick, '#ffffff']]) {
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + dx * gap, y + dy * gap);
      pen.lineTo(x + dx * long, y + dy * long);
    }
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

// What is under the pointer ----------------------------------------------------------------------------------------------------------

function cell(event) {
  const box = canvas.getBoundingClientRect(), [height, width] = now.image.shown;
  const x = Math.floor(((event.clientX - box.left) / box.width) * width), y = Math.floor(((event.clientY - box.top) / box.height) * height);
  return [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
}

function told([x, y]) {
  if (now.wait && now.wait.place[0] === x && now.wait.place[1] === y) { // asked for, not yet answered
    const label = now.labels.find((each) => each.name === now.wait.label);
    return { name: now.wait.label, sure: '…', colour: label ? label.colour : '#888888' };
  }
  const at = y * now.image.shown[1] + x, label = now.labels[now.ids[at]];
  return label ? { id: now.ids[at], name: label.name, sure: now.sure[at] + ' %', colour: label.colour } : null;
}

function point(place, aloud) {
  const found = now.ids ? told(place) : null;
  now.under = place;
  tip.hidden = !found;
  if (!found) return;
  find('dot').style.background = found.colour;
  find('tip-name').textContent = found.name;
  find('tip-sure').textContent = found.sure;
  if (aloud) find('said').textContent = found.name + ', ' + found.sure;
  const box = canvas.getBoundingClientRect(), home = frame.getBoundingClientRect(), [height, width] = now.image.shown;
  const x = ((place[0] + 0.5) / width) * box.width + box.left - home.left, y = ((place[1] + 0.5) / height) * box.height + box.top - home.top;
  const left = Math.min(Math.max(x - tip.offsetWidth / 2, 4), home.width - tip.offsetWidth - 4);
  const above = y - tip.offsetHeight - 14;
  tip.style.transform = 'translate(' + Math.round(left) + 'px, ' + Math.round(above < 4 ? y + 18 : above) + 'px)';
}

function away() { tip.hidden = true; now.under = null; }

// Clicks -----------------------------------------------------------------------------------------------------------------------------

function click(place) {
  if (!now.ids || now.picked === null) {
    point(place, true);
    if (now.ids) say('Choose a label below, then click where it belongs.');
    return;
  }
  const [height, width] = now.image.shown;
  const x = ((place[0] + 0.5) / width) * now.image.size[1], y = ((place[1] + 0.5) / height) * now.image.size[0];
  now.wait = { x, y, place, label: now.picked };
  point(place, false);
  redraw();
  trigger('clicked', { x, y, label: now.picked });
}

const STILL = 5; // pixels of the screen that a pointer may move while it is down, and still means a click
let down = null;
canvas.addEventListener('pointerdown', (event) => { down = { x: event.clientX, y: event.clientY, far: event.button !== 0 }; });
canvas.addEventListener('pointermove', (event) => {
  if (down && Math.hypot(event.clientX - down.x, event.clientY - down.y) > STILL) down.far = true;
  if (now.image && event.pointerType !== 'touch') { now.at = null; point(cell(event), false); }
});
canvas.addEventListener('pointerleave', (event) => { // a finger that is lifted leaves, too
  if (event.pointerType === 'touch') return;
  if (down) down.far = true;
  away();
});
canvas.addEventListener('click', (event) => {
  const dragged = down && (down.far || Math.hypot(event.clientX - down.x, event.clientY - down.y) > STILL);
  down = null;
  if (now.image && !dragged) click(cell(event));
});
canvas.addEventListener('focus', redraw);
canvas.addEventListener('blur', () => { away(); redraw(); });
canvas.addEventListener('keydown', (event) => {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!now.image) return;
  const [height, width] = now.image.shown;
  if (ways[event.key]) {
    event.preventDefault();
    const far = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / STEPS));
    const from = now.at || [Math.floor(width / 2), Math.floor(height / 2)];
    now.at = [0, 1].map((axis) => Math.min(Math.max(from[axis] + ways[event.key][axis] * far, 0), [width, height][axis] - 1));
    point(now.at, true);
    redraw();
  } else if ((event.key === 'Enter' || event.key === ' ') && now.at) {
    event.preventDefault();
    click(now.at);
  } else if (event.key === 'Escape') { now.at = null; away(); redraw(); }
});

// The legend -------------------------------------------------------------------------------------------------------------------------

const share = (part) => (part === 0 ? '–' : part < 0.01 ? '< 1 %' : Math.round(100 * part) + ' %');

function made(tag, name, text) {
  const node = document.createElement(tag);
  node.className = 'nv-' + name;
  if (text !== undefined) node.textContent = text;
  if (tag === 'button') node.type = 'button';
  return node;
}

function drawn(path) {
  const space = 'http://www.w3.org/2000/svg', icon = document.createElementNS(space, 'svg'), line = document.createElementNS(space, 'path');
  icon.setAttribute('viewBox', '0 0 24 24');
  icon.setAttribute('aria-hidden', 'true');
  line.setAttribute('d', path);
  icon.append(line);
  return icon;
}

const OPEN = 'M2.5 12C3.5 10.2 7 6 12 6s8.5 4.2 9.5 6c-1 1.8-4.5 6-9.5 6s-8.5-4.2-9.5-6zM12 9a3 3 0 1 0 0 6a3 3 0 1 0 0-6z';
const SHUT = 'M2.5 12C3.5 10.2 7 6 12 6s8.5 4.2 9.5 6c-1 1.8-4.5 6-9.5 6s-8.5-4.2-9.5-6zM4 20L20 4';

function entry(label, id) {
  const row = made('span', 'entry'), pick = made('button', 'pick'), eye = made('button', 'eye'), dot = made('span', 'dot');
  const fresh = id === null, chosen = now.picked === label.name;
  dot.style.background = label.colour;
  pick.append(dot, made('span', 'name', label.name), made('span', 'share', fresh ? 'new' : share(label.share)));
  pick.title = fresh ? label.name : label.words.join('; ');
  pick.setAttribute('aria-pressed', String(chosen));
  pick.addEventListener('click', () => choose(chosen ? null : label.name));
  row.append(pick);
  if (!fresh) {
    const off = now.hidden.has(id);
    eye.append(drawn(off ? SHUT : OPEN));
    eye.title = off ? 'Show' : 'Hide';
    eye.setAttribute('aria-label', (off ? 'Show ' : 'Hide ') + label.name);
    eye.addEventListener('click', () => { off ? now.hidden.delete(id) : now.hidden.add(id); listed('eye', id); redraw(); });
    const light = (over) => () => { if (now.over !== over) { now.over = over; redraw(); } };
    for (const [kind, over] of [['pointerenter', id], ['pointerleave', null], ['focusin', id], ['focusout', null]]) row.addEventListener(kind, light(over));
    row.classList.toggle('nv-off', off);
    row.classList.toggle('nv-none', label.share === 0);
    row.append(eye);
  }
  row.dataset.id = fresh ? 'new' : id;
  return row;
}

function listed(kind, id) {
  const order = now.labels.map((_, at) => at).sort((one, two) => now.labels[two].share - now.labels[one].share || one - two);
  legend.replaceChildren(...order.map((at) => entry(now.labels[at], at)), ...now.fresh.map((name) => entry({ name, colour: '#888888' }, null)));
  legend.hidden = !now.labels.length;
  find('new').hidden = !now.labels.length;
  if (kind !== undefined) { // the button that was pressed was made anew
    const row = [...legend.children].find((each) => each.dataset.id === String(id));
    if (row) row.querySelector('.nv-' + kind).focus({ preventScroll: true });
  }
}

function choose(name) {
  now.picked = name;
  const id = now.labels.findIndex((label) => label.name === name);
  const held = document.activeElement && legend.contains(document.activeElement) ? document.activeElement.closest('.nv-entry').dataset.id : undefined;
  listed(held === undefined ? undefined : 'pick', held === undefined ? id : held);
  say(name === null ? '' : 'Click where “' + name + '” belongs.');
  canvas.classList.toggle('nv-aims', name !== null);
}

find('new').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = find('new-name'), name = field.value.trim().split(/\s+/).join(' ');
  if (!name) return say('Type the new label first.');
  if (!now.labels.some((label) => label.name === name) && !now.fresh.includes(name)) now.fresh.push(name);
  field.value = '';
  choose(name);
});

// What comes in and goes out ---------------------------------------------------------------------------------------------------------

async function preview(given) {
  Object.assign(now, nothing());
  try {
    now.bitmap = await loaded(URL.createObjectURL(given));
    const size = [now.bitmap.naturalHeight, now.bitmap.naturalWidth], share = Math.min(1, LOOKED_AT / Math.max(...size));
    now.image = { key: '', size, shown: size.map((side) => Math.max(1, Math.round(side * share))) };
    fitted();
    now.drawn = {};
  } catch (error) { // a kind that browsers do not show: the server may read it all the same
    now.image = now.bitmap = null;
  }
  stage.dataset.state = now.image ? 'image' : 'empty';
  frame.hidden = find('tools').hidden = !now.image;
  listed();
  draw();
}

function fitted() {
  const [height, width] = now.image.shown;
  now.scale = Math.max(1, Math.round(LOOKED_AT / Math.max(height, width)));
  if (canvas.width === width * now.scale && canvas.height === height * now.scale) return;
  canvas.width = width * now.scale;
  canvas.height = height * now.scale;
  canvas.style.setProperty('--nv-ratio', width / height);
}

async function send(given) {
  if (!given) return;
  await preview(given);
  say('Sending ' + given.name + ' …');
  try {
    const sent = await upload(given);
    trigger('image', { path: sent.path, name: given.name });
    say('');
  } catch (error) {
    say('Got ' + given.name + ', which could not be sent. Accepted are images up to ' + element.querySelector('.nv').dataset.most + '. Choose a smaller one.');
  }
}

file.addEventListener('change', () => { send(file.files[0]); file.value = ''; });
find('change').addEventListener('click', () => file.click());
const undo = () => { if (now.clicks.length) trigger('undo', {}); };
const redo = () => { if (now.undone) trigger('redo', {}); };
find('undo').addEventListener('click', undo);
find('redo').addEventListener('click', redo);
document.addEventListener('keydown', (event) => {
  const key = event.key.toLowerCase(), typing = event.target.closest('textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])');
  if (!(event.ctrlKey || event.metaKey) || event.altKey || typing || !['z', 'y'].includes(key)) return;
  event.preventDefault();
  (key === 'y' || event.shiftKey ? redo : undo)();
});
find('wipe').addEventListener('input', redraw);
find('strength').addEventListener('input', redraw);
stage.addEventListener('dragover', (event) => { event.preventDefault(); stage.classList.add('nv-over'); });
stage.addEventListener('dragleave', () => stage.classList.remove('nv-over'));
stage.addEventListener('drop', (event) => { event.preventDefault(); stage.classList.remove('nv-over'); send(event.dataTransfer.files[0]); });
document.addEventListener('paste', (event) => { send([...event.clipboardData.files].find((each) => each.type.startsWith('image/'))); });
new ResizeObserver(redraw).observe(canvas);

const KEPT = 'nerveseg-desk'; // this tab's alone, until it is closed: a reload asks for its image by it
let last = Promise.resolve();
watch('value', () => { const value = props.value; last = last.then(() => shown(value)).catch((error) => say(error.message)); });

async function shown(value) {
  if (!value || !value.image) return;
  if (!now.image || now.image.key !== value.image.key || !now.bitmap) {
    if (!value.image.url) return;
    now.bitmap = await loaded(value.image.url);
    now.drawn = {};
    Object.assign(now, nothing());
    find('wipe').value = 0;
    canvas.classList.remove('nv-aims');
  }
  now.image = value.image;
  if (value.key) sessionStorage.setItem(KEPT, value.key);
  const [height, width] = value.image.shown;
  fitted();
  now.wait = null;
  if (value.maps) {
    [now.ids, now.sure] = await unpacked(value.maps, width * height);
    const names = value.labels.map((label) => label.name), before = now.labels.map((label) => label.name);
    now.hidden = new Set([...now.hidden].map((id) => names.indexOf(before[id])).filter((id) => id >= 0));
    now.fresh = now.fresh.filter((name) => !names.includes(name));
    if (now.picked !== null && !names.includes(now.picked) && !now.fresh.includes(now.picked)) now.picked = null;
    now.labels = value.labels;
    now.over = null;
  } else if (value.bare) Object.assign(now, nothing());
  now.clicks = value.clicks || [];
  now.undone = value.undone || 0;
  now.serial = value.serial;
  stage.dataset.state = 'image';
  frame.hidden = false;
  find('tools').hidden = false;
  find('undo').disabled = !now.clicks.length;
  find('undo').textContent = now.clicks.length > 1 ? 'Undo click (' + now.clicks.length + ')' : 'Undo click';
  find('redo').disabled = !now.undone;
  listed();
  canvas.classList.toggle('nv-aims', now.picked !== null);
  say(value.status || '');
  if (now.under) point(now.under, true); // what is said of a pixel is what it is now
  draw();
  if (value.maps && matchMedia('(max-width: 700px)').matches) stage.scrollIntoView({ block: 'nearest' });
  stage.dataset.serial = value.serial;
}

// The scenes that come along ---------------------------------------------------------------------------------------------------------

const begun = props.value || {};
element.querySelector('.nv').dataset.most = begun.most || '';
for (const [at, scene] of (begun.examples || []).entries()) {
  const thumb = made('button', 'thumb'), image = made('img', 'thumb-image');
  image.src = scene.url;
  image.alt = '';
  thumb.setAttribute('aria-label', 'Try the scene ' + scene.name);
  thumb.append(image);
  thumb.addEventListener('click', () => trigger('example', { index: at }));
  find('thumbs').append(thumb);
  find('examples').hidden = false;
}

const desk = sessionStorage.getItem(KEPT);
if (desk) setTimeout(() => trigger('back', { key: desk }), 0);
