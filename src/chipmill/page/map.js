"use strict";
// The page of the chip index. deck.gl draws; what it needs is in this file as gzip in base64.

const WORDS = ["usable", "cloud", "nodata"];
const PALETTE = {
  usable: [42, 157, 92],
  cloud: [138, 150, 164],
  nodata: [209, 73, 91],
  // Okabe and Ito 2008: told apart by those who see colours differently.
  collections: [
    [0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167],
    [213, 94, 0], [86, 180, 233], [240, 228, 66], [0, 0, 0],
  ],
  none: [247, 251, 255],
  all: [8, 48, 107],
};
const ALPHA = 200;
// Degrees are kept as whole numbers of 1e-7: a centimetre on the ground.
const UNIT = 1e-7;
// A chip is drawn a little smaller than it is, so that neighbours can be told apart.
const INSET = 0.03;
const SCENE_DOT = [29, 39, 51, 160];

async function unpacked(id) {
  const text = document.getElementById(id).textContent.trim();
  const coded = atob(text);
  const bytes = new Uint8Array(coded.length);
  for (let i = 0; i < coded.length; i++) bytes[i] = coded.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function unpackedText(id) {
  return new TextDecoder().decode(await unpacked(id));
}

// Columns lie one after the other: differences from row to row, their bytes in four planes.
function columns(buffer, about) {
  const bytes = new Uint8Array(buffer);
  const found = {};
  let start = 0;
  for (const { name, count } of about.columns) {
    const values = new Int32Array(count);
    const [b, c, d] = [start + count, start + 2 * count, start + 3 * count];
    let last = 0;
    for (let i = 0; i < count; i++) {
      last += bytes[start + i] | (bytes[b + i] << 8) | (bytes[c + i] << 16) | (bytes[d + i] << 24);
      values[i] = last;
    }
    found[name] = values;
    start += 4 * count;
  }
  return found;
}

function geometry(table, count) {
  const positions = new Float64Array(count * 8);
  const indices = new Uint32Array(count * 6);
  const starts = new Uint32Array(count + 1);
  const xs = [0, 1, 2, 3].map((corner) => table[`x${corner}`]);
  const ys = [0, 1, 2, 3].map((corner) => table[`y${corner}`]);
  for (let i = 0; i < count; i++) {
    const x = (xs[0][i] + xs[1][i] + xs[2][i] + xs[3][i]) / 4;
    const y = (ys[0][i] + ys[1][i] + ys[2][i] + ys[3][i]) / 4;
    for (let k = 0; k < 4; k++) {
      positions[8 * i + 2 * k] = (xs[k][i] + (x - xs[k][i]) * INSET) * UNIT;
      positions[8 * i + 2 * k + 1] = (ys[k][i] + (y - ys[k][i]) * INSET) * UNIT;
    }
    indices.set([4 * i, 4 * i + 1, 4 * i + 2, 4 * i, 4 * i + 2, 4 * i + 3], 6 * i);
    starts[i + 1] = 4 * (i + 1);
  }
  return { positions, indices, starts };
}

function between(share) {
  return PALETTE.none.map((from, band) => Math.round(from + (PALETTE.all[band] - from) * share));
}

// Each way to colour: the colour of a chip, and what the legend says.
function colourings(table, about) {
  const collection = (chip) => about.scenes[table.scene[chip]][1];
  const hue = (number) => PALETTE.collections[number % PALETTE.collections.length];
  const ramp = [0, 0.25, 0.5, 0.75, 1].map((share) => [between(share), `${100 * share} %`]);
  return {
    usable: {
      of: (chip) => PALETTE[WORDS[table.judged[chip]]],
      legend: WORDS.map((word, number) => [
        PALETTE[word],
        `${word}: ${about.judged[number].toLocaleString("en")} chips`,
      ]),
    },
    cloud: { of: (chip) => between(table.cloud[chip] / 10000), legend: ramp },
    nodata: { of: (chip) => between(table.nodata[chip] / 10000), legend: ramp },
    collection: {
      of: (chip) => hue(collection(chip)),
      legend: about.collections.map((name, number) => [hue(number), name]),
    },
  };
}

function painted(of, owners) {
  const colours = new Uint8Array(owners.length * 16);
  for (let i = 0; i < owners.length; i++) {
    const [red, green, blue] = of(owners[i]);
    for (let k = 0; k < 4; k++) colours.set([red, green, blue, ALPHA], 16 * i + 4 * k);
  }
  return colours;
}

// The zoom at which a box of degrees fills most of the window, in Web Mercator of 512 px a world.
function viewOf([west, south, east, north]) {
  const flat = (lat) => Math.log(Math.tan(Math.PI / 4 + (Math.max(-85, Math.min(85, lat)) * Math.PI) / 360));
  const wide = Math.max(east - west, 1e-4) / 360;
  const tall = Math.max(flat(north) - flat(south), 1e-6) / (2 * Math.PI);
  const zoom = Math.min(
    Math.log2((0.8 * innerWidth) / (512 * wide)),
    Math.log2((0.8 * innerHeight) / (512 * tall)),
  );
  return {
    longitude: (west + east) / 2,
    latitude: (south + north) / 2,
    zoom: Math.max(0, Math.min(zoom, 18)),
    maxZoom: 22,
  };
}

function tooltip(table, about, owners) {
  const percent = (value) => `${(value / 100).toFixed(1)} %`;
  return ({ layer, index }) => {
    if (!layer || index < 0) return null;
    if (layer.id === "scenes") return { text: about.scenes[index][0] };
    if (layer.id !== "chips") return null;
    const chip = owners[index];
    const name = `${about.scenes[table.scene[chip]][0]}/${table.row[chip]}-${table.col[chip]}`;
    const said = `cloud ${percent(table.cloud[chip])}, nodata ${percent(table.nodata[chip])}`;
    return { text: `${name}\n${WORDS[table.judged[chip]]}: ${said}` };
  };
}

function fill(select, words) {
  select.replaceChildren(...words.map(([value, text]) => new Option(text, value)));
}

function showLegend(entries) {
  const rows = entries.map(([[red, green, blue], text]) => {
    const row = document.createElement("li");
    const box = document.createElement("i");
    box.style.background = `rgb(${red}, ${green}, ${blue})`;
    row.append(box, text);
    return row;
  });
  document.getElementById("legend").replaceChildren(...rows);
}

// The bundle gives a function that makes a deck of JSON: its layers tell the classes.
function opened(about) {
  const wanted = ["GeoJsonLayer", "SolidPolygonLayer", "ScatterplotLayer"];
  const deck = createDeck({
    container: document.getElementById("map"),
    jsonInput: {
      initialViewState: viewOf(about.bounds),
      controller: true,
      mapProvider: null,
      layers: wanted.map((kind) => ({ "@@type": kind, id: kind, data: [] })),
    },
    tooltip: false,
    handleEvent: () => {},
  });
  const kinds = deck.props.layers.map((layer) => layer.constructor);
  return { deck, Land: kinds[0], Chips: kinds[1], Dots: kinds[2] };
}

async function start() {
  const about = JSON.parse(document.getElementById("about").textContent);
  const script = document.createElement("script");
  script.textContent = await unpackedText("deck");
  document.head.append(script);
  const land = JSON.parse(await unpackedText("land"));
  const table = columns(await unpacked("chips"), about);
  const count = table.x0.length;
  const owners = new Uint32Array(count);
  for (let i = 0; i < count; i++) owners[i] = i < about.chips ? i : table.owner[i - about.chips];
  const { positions, indices, starts } = geometry(table, count);
  const ways = colourings(table, about);
  const { deck, Land, Chips, Dots } = opened(about);

  const draw = (way) => {
    const attributes = {
      getPolygon: { value: positions, size: 2 },
      getFillColor: { value: painted(ways[way].of, owners), size: 4, normalized: true },
      indices: { value: indices, size: 1 },
    };
    deck.setProps({
      getTooltip: tooltip(table, about, owners),
      layers: [
        new Land({
          id: "land",
          data: land,
          getFillColor: [246, 244, 239],
          getLineColor: [190, 198, 205],
          lineWidthUnits: "pixels",
          getLineWidth: 1,
        }),
        new Chips({
          id: "chips",
          data: { length: count, startIndices: starts, attributes },
          positionFormat: "XY",
          _normalize: false,
          pickable: true,
        }),
        new Dots({
          id: "scenes",
          data: about.scenes,
          getPosition: (scene) => [(scene[2][0] + scene[2][2]) / 2, (scene[2][1] + scene[2][3]) / 2],
          getRadius: 3,
          radiusUnits: "pixels",
          getFillColor: SCENE_DOT,
          pickable: true,
        }),
      ],
    });
    showLegend(ways[way].legend);
    document.body.dataset.colour = way;
  };

  const colour = document.getElementById("colour");
  fill(colour, Object.keys(ways).map((way) => [way, way]));
  colour.addEventListener("change", () => draw(colour.value));
  const place = document.getElementById("place");
  fill(place, [["", "all"], ...about.scenes.slice(0, 2000).map(([name], number) => [number, name])]);
  place.addEventListener("change", () => {
    const box = place.value === "" ? about.bounds : about.scenes[place.value][2];
    deck.setProps({ initialViewState: viewOf(box) });
  });
  draw("usable");
  document.getElementById("told").textContent = about.told;
  window.chipmill = { deck, table, about };
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  document.getElementById("told").textContent = `The map cannot be drawn here: ${error.message}`;
  document.body.dataset.state = "failed";
  console.error(error);
});
