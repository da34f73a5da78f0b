/**
 * Complete fill of an image over loopback, between two processes, verified into the pool: MB/s.
 *
 *     node bench/fill.ts [--mb 640] [--runs 3] [--compressible] [--json]
 *
 * One process publishes an image of incompressible blocks and serves it; another, with an empty store, opens it, fills it, and says how
 * long that took from the first request to the last block stored. The clock does not count making the image, nor dialling. Wall
 * time includes both processes' work, which share the machine's cores.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { BLOCK_SIZE_BYTES } from '../src/cluster.ts'
import { sha256 } from '../src/image/hash.ts'
import { IndexBuilder } from '../src/image/index-builder.ts'
import { rowanMuxer } from '../src/node/peer.ts'
import { rowanNoise } from '../src/node/secure.ts'
import { lineLog, systemClock, systemRandom } from '../src/node/system.ts'
import { Catalog } from '../src/store/catalog.ts'
import { Images } from '../src/store/images.ts'
import { Pool } from '../src/store/pool.ts'
import { type ReplicaHint, Swarm } from '../src/swarm/swarm.ts'

interface Served {
  image: string
  hint: ReplicaHint
}

interface Result {
  seconds: number
  megabytes: number
  megabytesPerSecond: number
  wireMegabytes: number
  cpuSeconds: number
  rssMegabytes: number
}

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '640' },
    runs: { type: 'string', default: '3' },
    compressible: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    role: { type: 'string', default: 'main' }
  }
})

/** What a daemon runs with. */
const DAEMON_FLAGS = readFileSync(join(import.meta.dirname, '../bin/rowan'), 'utf8').match(/--max-[\w-]+=\d+/g) ?? []

async function makePeer() {
  const folder = await mkdtemp(join(tmpdir(), 'rowan-fill-'))
  const log = lineLog('warn')
  const catalog = await Catalog.open(join(folder, 'catalog'))
  const pool = await Pool.open({ directory: join(folder, 'pool'), catalog, log }, { quotaBytes: 2 ** 40 })
  const images = new Images({ catalog, pool, log })
  const network = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [rowanNoise()],
    streamMuxers: [rowanMuxer()],
    connectionMonitor: { enabled: false }
  })
  const components = {
    network,
    images,
    pool,
    findReplicas: async () => [],
    clock: systemClock,
    random: systemRandom,
    log
  }
  const swarm = new Swarm(components, { maxPeers: 8 })
  await swarm.start()
  const stop = async () => {
    await swarm.stop()
    await network.stop()
    images.close()
    await pool.close()
    await catalog.close()
    await rm(folder, { recursive: true, force: true })
  }
  return { network, images, pool, swarm, stop }
}

/** Blocks that differ in a counter: as incompressible as their first, or as compressible. */
async function serve(): Promise<void> {
  const { network, images, pool, stop } = await makePeer()
  const blocks = Math.ceil((Number(values.mb) * 1e6) / BLOCK_SIZE_BYTES)
  const pattern = values.compressible
    ? Buffer.alloc(BLOCK_SIZE_BYTES, 'rowan ')
    : Buffer.from(systemRandom.bytes(BLOCK_SIZE_BYTES))
  const nodes: [Uint8Array, Uint8Array][] = []
  const builder = new IndexBuilder((hash, bytes) => void nodes.push([hash, bytes]))
  let batch: { hash: Uint8Array; block: Uint8Array }[] = []
  for (let n = 0; n < blocks; n++) {
    const block = Buffer.from(pattern)
    block.writeUInt32BE(n, 0)
    const hash = sha256(block)
    builder.add(hash)
    batch.push({ hash, block })
    if (batch.length < 64 && n + 1 < blocks) continue
    await pool.putMany(batch)
    batch = []
  }
  const { id, rootBytes } = builder.finish(blocks * BLOCK_SIZE_BYTES)
  await images.keep(rootBytes, nodes)
  const addresses = network.getMultiaddrs().map(address => address.toString())
  const served: Served = { image: id, hint: { peer: network.peerId.toString(), addresses, complete: true } }
  process.send?.(served)
  process.once('message', () => void stop().then(() => process.disconnect()))
}

async function fill(): Promise<void> {
  const { swarm, stop } = await makePeer()
  process.once('message', (message: unknown) => {
    const { image, hint } = message as Served
    const run = async () => {
      const local = await swarm.openImage(image, [hint])
      const startMs = performance.now()
      const cpu = process.cpuUsage()
      await swarm.fill(image)
      const seconds = (performance.now() - startMs) / 1000
      const used = process.cpuUsage(cpu)
      const megabytes = (local.local.blocks * BLOCK_SIZE_BYTES) / 1e6
      const result: Result = {
        seconds,
        megabytes,
        megabytesPerSecond: megabytes / seconds,
        wireMegabytes: swarm.transfers(image).wireBytes / 1e6,
        cpuSeconds: (used.user + used.system) / 1e6,
        rssMegabytes: process.memoryUsage.rss() / 1e6
      }
      process.send?.(result)
      await stop()
      process.disconnect()
    }
    void run()
  })
  process.send?.('ready')
}

function start(role: string): ChildProcess {
  const args = ['--role', role, '--mb', values.mb, ...(values.compressible ? ['--compressible'] : [])]
  return fork(import.meta.filename, args, { execArgv: [...DAEMON_FLAGS, ...process.execArgv] })
}

function message<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once('message', value => resolve(value as T))
    child.once('exit', code => reject(new Error(`a process ended with ${code}`)))
  })
}

async function main(): Promise<void> {
  const server = start('serve')
  const results: Result[] = []
  try {
    const served = await message<Served>(server)
    for (let run = 0; run < Number(values.runs); run++) {
      const client = start('fill')
      await message(client)
      const answer = message<Result>(client)
      client.send(served)
      const result = await answer
      results.push(result)
      if (values.json) continue
      const { seconds, megabytes, megabytesPerSecond, wireMegabytes, cpuSeconds, rssMegabytes } = result
      console.log(
        `${megabytes.toFixed(0)} MB in ${seconds.toFixed(2)} s: ${megabytesPerSecond.toFixed(0)} MB/s ` +
          `(${wireMegabytes.toFixed(0)} MB on the wire, ${cpuSeconds.toFixed(2)} s of CPU, ${rssMegabytes.toFixed(0)} MB resident)`
      )
    }
  } finally {
    server.send('stop')
  }
  if (values.json) console.log(JSON.stringify(results))
}

if (values.role === 'serve') await serve()
else if (values.role === 'fill') await fill()
else await main()
