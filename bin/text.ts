/**
 * Answers as a person reads them: tables and lists of facts.
 */

/**
 * Columns as wide as their longest cell. Where a terminal is narrower than that, wrapped lines could not be told from each other: then each
 * row is a list of facts.
 *
 * @param terminalColumns - undefined elsewhere than on a terminal
 */
export function table(header: string[], rows: string[][], terminalColumns = process.stdout.columns): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map(row => row[column]!.length)))
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd()
  const lines = [header, ...rows].map(line)
  const isWide = terminalColumns !== undefined && lines.some(({ length }) => length > terminalColumns)
  if (!isWide) return lines.join('\n')
  const titles = header.map((title, column) => [title, column] as const)
  const factsOf = (row: string[]) =>
    facts(titles.flatMap(([title, column]) => (row[column] === '' ? [] : [[title, row[column]!]])))
  return rows.map(factsOf).join('\n\n')
}

/** `name  value`, one each line, the values below each other; several values of one name too. */
export function facts(entries: [name: string, value: string | string[]][]): string {
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries
    .flatMap(([name, value]) => {
      const values = typeof value === 'string' ? [value] : value.length === 0 ? ['none'] : value
      return values.map((each, index) => `${(index === 0 ? name : '').padEnd(width)}  ${each}`)
    })
    .join('\n')
}

/** `12D3KooWAb…/grid` instead of all 52 characters of the publisher's id. */
export function shortAppliance(appliance: string): string {
  return appliance.replace(/^(\w{12})\w{8,}(?=\/)/, '$1…')
}

/** "3 blocks", "1 block". */
export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`
}
