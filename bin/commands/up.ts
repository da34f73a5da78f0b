/**
 * rowan up: the peer, in the foreground.
 */
import type { Command } from 'commander'
import { asRowanError, RowanError } from '../../src/errors.ts'
import type { StartDaemon } from '../../src/node/daemon-api.ts'
import { makeHome } from '../../src/node/home.ts'
import { loadSettings, type Settings } from '../../src/node/settings.ts'
import { lineLog } from '../../src/node/system.ts'
import { parseRate } from '../../src/node/units.ts'
import { givenPath, type Session } from '../session.ts'
import { facts } from '../text.ts'

interface UpOptions {
  /** False for --no-listen. */
  listen?: string[] | boolean
  announce?: string[]
  bootstrap?: string[]
  config?: string
  maxUpload?: string
  maxDownload?: string
}

export function addUp(program: Command, session: Session): void {
  program
    .command('up')
    .description('Run the peer of this home in the foreground, until SIGINT or SIGTERM.')
    .option('--listen <multiaddr>', 'listen here for other peers (may be repeated; replaces [network] listen)', collect)
    .option('--no-listen', 'listen nowhere: this peer only calls others')
    .option('--announce <multiaddr>', 'tell others this address instead of those found (may be repeated)', collect)
    .option('--bootstrap <multiaddr>', 'join the network through this peer, …/p2p/ID (may be repeated)', collect)
    .option('--max-upload <rate>', 'send no more than this, such as 5Mbit (replaces [swarm] maxUpload)')
    .option('--max-download <rate>', 'fetch no more than this (replaces [swarm] maxDownload)')
    .option('--config <file>', 'settings (default: config.toml in the home)')
    .addHelpText(
      'after',
      `
Examples:
  rowan up
  rowan up --listen /ip4/0.0.0.0/tcp/4601 --bootstrap /ip4/192.0.2.7/tcp/4601/p2p/12D3KooW…
  rowan up --json --no-listen               prints one line of JSON when it is ready`
    )
    .action((options: UpOptions) => up(session, options))
}

function collect(value: string, previous: string[] | boolean | undefined): string[] {
  return [...(Array.isArray(previous) ? previous : []), value]
}

async function up(session: Session, options: UpOptions): Promise<void> {
  const settings = settingsOf(session, options)
  const home = makeHome(session.home.directory)
  const log = lineLog(settings.log.level)
  const stopAsked = firstSignal()
  // A promise that a library forgot must not take the disks away from running guests.
  process.on('unhandledRejection', error => {
    const { code, message, stack } = asRowanError(error)
    log.warn('a failure that nobody handled', { code, message, stack })
  })
  const { startDaemon }: { startDaemon: StartDaemon } = await import('../../src/node/daemon.ts')
  const { stop, ...daemon } = await startDaemon({ home, settings, log, version: session.version })
  const { peer, publisher, addresses, control } = daemon
  session.answer(
    { peer, publisher, addresses, control },
    () =>
      `${facts([
        ['peer', peer],
        ['publisher', publisher],
        ['addresses', addresses],
        ['control', control]
      ])}\nready; Ctrl-C stops it`
  )
  const signal = await stopAsked
  log.info('stopping', { signal })
  // A second signal does not wait for anything.
  process.once(signal, () => process.exit(1))
  await stop()
}

function settingsOf(session: Session, options: UpOptions): Settings {
  const { listen, announce, bootstrap, config } = options
  const settings =
    config === undefined
      ? loadSettings(session.home.config, { optional: true })
      : loadSettings(givenPath(config), { optional: false })
  const network = {
    ...settings.network,
    listen: listen === false ? [] : Array.isArray(listen) ? listen : settings.network.listen,
    announce: announce ?? settings.network.announce,
    bootstrap: bootstrap ?? settings.network.bootstrap
  }
  const swarm = { ...settings.swarm }
  if (options.maxUpload !== undefined) swarm.maxUploadBytesPerSecond = rateOf(options.maxUpload)
  if (options.maxDownload !== undefined) swarm.maxDownloadBytesPerSecond = rateOf(options.maxDownload)
  return { ...settings, network, swarm }
}

function rateOf(text: string): number {
  try {
    return parseRate(text)
  } catch (cause) {
    throw new RowanError('USAGE', (cause as Error).message, { cause })
  }
}

/** From now on SIGINT and SIGTERM do not end the process but fulfil this. */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve(signal))
  })
}
