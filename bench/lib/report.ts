/**
 * What a benchmark leaves behind: a table on the screen and a JSON file under bench/results, with the machine that it
 * ran on.
 */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { arch, cpus, loadavg, release, totalmem } from 'node:os'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'

/** A load average above which measurements mean little. */
const BUSY_LOAD = 0.7

const RESULTS = join(import.meta.dirname, '..', 'results')

export interface MachineReport {
  cpu: string
  cores: number
  memoryGiB: number
  system: string
  node: string
  /** Of the last minute, before anything was measured: much more than 0 means that others were at work. */
  loadBefore: number
  /** Name of a program and the first line of its `--version`. */
  programs: Record<string, string>
}

/**
 * To be called before the first measurement; says so when the machine is busy with something else.
 *
 * @param programs - those that take part, by name
 */
export async function describeMachine(programs: string[]): Promise<MachineReport> {
  const [load = 0] = loadavg()
  if (load > BUSY_LOAD) console.log(`others are at work here (load ${load.toFixed(1)}): the figures will be too low\n`)
  const versions = await Promise.all(programs.map(async name => [name, await versionOf(name)] as const))
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${release()} ${arch()}`,
    node: process.version,
    loadBefore: load,
    programs: Object.fromEntries(versions)
  }
}

async function versionOf(program: string): Promise<string> {
  const { stdout } = await promisify(execFile)(program, ['--version'])
  return stdout.split('\n')[0] ?? ''
}

/** Writes bench/results/NAME.json and says where it is. */
export async function saveResults(name: string, results: object): Promise<void> {
  await mkdir(RESULTS, { recursive: true })
  const path = join(RESULTS, `${name}.json`)
  await writeFile(path, `${JSON.stringify(results, undefined, 2)}\n`)
  console.log(`\n${relative(process.cwd(), path)}`)
}

/** Columns as wide as their widest cell; the first to the left, the others to the right. */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => (row[column] ?? '').length)))
  const line = (row: string[]) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ')
  return rows.map(line).join('\n')
}
