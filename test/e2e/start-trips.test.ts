/**
 * What a start costs in round trips, with daemons: a volunteer that has joined and knows no replica, over a line that is so long that
 * round trips can be told from computing.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { World } from '../../bench/wan/world.ts'
import { ROUND_TRIP_BUDGET } from '../../src/machine/start-trace.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { startQueuedTime } from '../tools/own-time.ts'
import { endProcesses } from '../tools/processes.ts'

const RTT_MS = 1000
/** One question to the DHT, and one to the directory. */
const LOOKUP_TRIPS = 2
/** For computing; what the peers waited because others had the processor is taken off. */
const SLACK_TRIPS = 0.9

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

test('from attach to the first block within the budget, the search of it in two round trips', async () => {
  const v1 = join(await temporaryFolder(), 'v1.raw')
  writeFileSync(v1, randomBytes(4 * 1024 * 1024))
  const world = await World.build({ v1 })
  await world.setLine({ rttMs: RTT_MS, downMbit: 0, upMbit: 0 })
  const volunteer = await world.volunteer()
  const peers = [world.hub, ...world.replicas, volunteer]
  const queuedMs = startQueuedTime([world.line.pid, ...peers.map(peer => peer.process.pid)])
  const { uri } = await volunteer.json(['attach', `${world.appliance}@v1`, '--as', 'm'])
  const disk = await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'm')
  await disk.bytes(0, 4096)
  disk.destroy()
  const busyMs = queuedMs()
  const { marks, firstBlock } = await volunteer.json(['status', '--trace', 'm'] as unknown as ['trace'])
  const found = marks.find(({ what }) => what === 'release found')!
  expect(found.atMs).toBeGreaterThan(LOOKUP_TRIPS * RTT_MS)
  expect(found.atMs - busyMs).toBeLessThan((LOOKUP_TRIPS + SLACK_TRIPS) * RTT_MS)
  expect(firstBlock!.ms - busyMs).toBeLessThan(ROUND_TRIP_BUDGET * RTT_MS)
})
