// Pieces of data lie in the page as base64 of compressed JSON and are unpacked when they are asked for, once.

const unpacked = new Map();
const loaded = new Map();

async function unpack(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

function chunk(number) {
  if (!unpacked.has(number)) unpacked.set(number, unpack(`chunk-${number}`).then(JSON.parse));
  return unpacked.get(number);
}

// A library is a script as well; it runs because the page's policy names its hash.
function library(id) {
  const load = async () => {
    document.head.append(make("script", {}, await unpack(`library-${id}`)));
  };
  if (!loaded.has(id)) loaded.set(id, load());
  return loaded.get(id);
}
