#!/usr/bin/env node
// The command's entry: plain JavaScript that old versions of Node can parse too, so that they say
// what is missing instead of failing on the syntax of main.ts. Hence dynamic imports only.

const nodeMajorMin = 24;

/**
 * Compiled code is kept between starts: with some 35 modules a start takes 80 ms instead of 170.
 * It is kept in the user's own folder, by the password database and not by $HOME: Node would run
 * what it finds there, and its default below /tmp or a $HOME that sudo passed on is not ours.
 */
async function keepCompiledCode() {
  const [module, os, path] = await Promise.all([
    import('node:module'),
    import('node:os'),
    import('node:path'),
  ]);
  let home;
  try {
    home = os.userInfo().homedir;
  } catch {
    return; // A user without an entry: start without the cache.
  }
  module.enableCompileCache(path.join(home, '.cache', 'imgstore', 'compiled'));
}

async function start() {
  await keepCompiledCode();
  await import('./main.ts');
}

if (Number(process.versions.node.split('.')[0]) >= nodeMajorMin) {
  start();
} else {
  process.stderr.write(
    `imgstore: Cannot run on Node ${process.versions.node}: ` +
      `Node ${nodeMajorMin} or newer is needed. ` +
      'In a checkout `npm ci` brings one; run `npx imgstore`.\n',
  );
  process.exitCode = 1;
}
