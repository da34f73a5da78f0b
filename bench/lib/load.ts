/**
 * Load on an NBD export: fio's nbd engine, and libnbd's shell for what fio cannot say.
 */

import { nbdsh } from '../../test/tools/nbdsh.ts'
import { runOk } from '../../test/tools/processes.ts'

export interface Load {
  /** As fio calls it: randread, read, randwrite, write. */
  pattern: string
  blockBytes: number
  queue: number
  /** Requests a second; as many as can be, if absent. */
  perSecond?: number
}

export interface Measured {
  iops: number
  bytesPerSecond: number
  /** 99 of 100 requests were faster, in microseconds; 0 where it is not known. */
  p99Us: number
}

interface FioDirection {
  iops: number
  bw_bytes: number
  clat_ns: { percentile?: Record<string, number> }
}

/** Runs fio for `seconds` and returns what it saw. */
export async function measureFio(uri: string, load: Load, seconds: number): Promise<Measured> {
  const output = await runOk('fio', [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${uri}`,
    `--rw=${load.pattern}`,
    `--bs=${load.blockBytes}`,
    `--iodepth=${load.queue}`,
    ...(load.perSecond === undefined ? [] : [`--rate_iops=${load.perSecond}`]),
    '--time_based',
    `--runtime=${seconds}`,
    '--randrepeat=0',
    '--norandommap',
    '--output-format=json'
  ])
  const report = JSON.parse(output.slice(output.indexOf('{'))) as { jobs: Record<'read' | 'write', FioDirection>[] }
  const direction = report.jobs[0]?.[load.pattern.endsWith('write') ? 'write' : 'read']
  if (direction === undefined) throw new Error(`fio reported nothing: ${output}`)
  const p99Ns = direction.clat_ns.percentile?.['99.000000'] ?? 0
  return { iops: direction.iops, bytesPerSecond: direction.bw_bytes, p99Us: p99Ns / 1000 }
}

/** Writes with FUA, one after the other, at random places, for `seconds`: fio's engine cannot set the flag. */
export async function measureFua(uri: string, blockBytes: number, seconds: number): Promise<Measured> {
  const script = [
    'import os, random, time',
    `data = os.urandom(${blockBytes})`,
    `slots = h.get_size() // ${blockBytes}`,
    'times = []',
    'start = now = time.monotonic()',
    `while now - start < ${seconds}:`,
    `    h.pwrite(data, random.randrange(slots) * ${blockBytes}, nbd.CMD_FLAG_FUA)`,
    '    before, now = now, time.monotonic()',
    '    times.append(now - before)',
    'times.sort()',
    'print(len(times) / (now - start), times[int(len(times) * 0.99)] * 1e6)'
  ]
  const output = await nbdsh(['-u', uri, '-c', script.join('\n')])
  const [iops = 0, p99Us = 0] = output.trim().split(' ').map(Number)
  return { iops, bytesPerSecond: iops * blockBytes, p99Us }
}
