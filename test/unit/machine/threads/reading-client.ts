/**
 * An NBD client in a thread of its own: reads block after block of the export `disk` and counts, until it is told to stop.
 */
import { workerData } from 'node:worker_threads'
import { BLOCK_SIZE_BYTES } from '../../../../src/cluster.ts'
import { NbdClient } from '../../../tools/nbd-client.ts'

export interface ReadingClientInput {
  socketPath: string
  blocks: number
  /** [reads, stop] */
  counts: SharedArrayBuffer
}

const { socketPath, blocks, counts: buffer } = workerData as ReadingClientInput
const counts = new Int32Array(buffer)
const client = await NbdClient.open(socketPath, 'disk')
for (let block = 0; Atomics.load(counts, 1) === 0; block = (block + 1) % blocks) {
  await client.bytes(block * BLOCK_SIZE_BYTES, 4096)
  Atomics.add(counts, 0, 1)
}
await client.disconnect()
