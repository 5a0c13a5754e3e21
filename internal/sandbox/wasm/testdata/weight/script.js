// Objects, closures, strings, regular expressions, sorting, floats.
function mul(a, b) { return ((a & 0xffff) * b + (((a >>> 16) * b & 0xffff) << 16)) | 0; }
function rnd(seed) { var s = seed | 0; return function () { s = (mul(s, 1664525) + 1013904223) | 0; return s >>> 0; }; }
var r = rnd(7), list = [], count = {};
for (var i = 0; i < 12000; i++) list.push({ key: r() % 1000, text: 'k' + (r() % 97), value: (r() % 100000) / 7 });
list.sort(function (a, b) { return a.key - b.key || a.value - b.value; });
list.forEach(function (o) { count[o.text] = (count[o.text] || 0) + o.value; });
print(Object.keys(count).sort().slice(0, 5).map(function (k) { return k + '=' + count[k].toFixed(3); }).join(' '));
var text = list.slice(0, 3000).map(function (o) { return o.text + ':' + o.key; }).join(',');
print(text.length, text.replace(/k(\d)(\d)?/g, '$2-$1').split(',').filter(function (s) { return /^-/.test(s); }).length);
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
print(fib(21));
var x = 0.5;
for (i = 0; i < 60000; i++) x = 3.99 * x * (1 - x) + Math.sin(i) * 1e-3 * (x > 0.5 ? -1 : 1) * 0.1, x = Math.min(Math.max(x, 0.001), 0.999);
print(x.toFixed(12), JSON.stringify(JSON.parse(JSON.stringify(list.slice(0, 400)))).length);
