/** A process that does nothing but hold its descriptors until it is killed. */

process.on('disconnect', () => process.exit());
process.send?.('ready');
